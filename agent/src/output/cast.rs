//! A console as an asciicast v2 recording: a header line, then one line for each piece of output, size or gap.
//!
//! Played by `asciinema play` and by the page. Invariants: a line is whole JSON; times never run backwards, also when the
//! node's clock was set; a character is never cut, and what is not UTF-8 is `U+FFFD`.

use hpcclient_protocol::{Run, run::TerminalSize};
use serde_json::json;

use super::decode::Decoder;

/// Makes the lines of a recording.
#[derive(Debug)]
pub(super) struct Cast {
    decoder: Decoder,
    /// When it starts; with the first line that has a time, where the run does not say.
    start_ns: Option<u64>,
    /// The time of the last line.
    last_ns: u64,
    size: TerminalSize,
}

impl Cast {
    /// Starts a recording and returns its header.
    pub(super) fn start(run: &Run, size: TerminalSize) -> (Self, String) {
        let started = run.started_ms;
        let title = run.name.clone();
        let header = json!({
            "version": 2,
            "width": size.cols,
            "height": size.rows,
            "timestamp": started.unwrap_or(run.created_ms) / 1000,
            "title": title.unwrap_or_else(|| run.spec.command.to_line()),
            "env": { "TERM": "xterm-256color" },
        });
        let cast = Self {
            decoder: Decoder::default(),
            start_ns: started.map(|ms| ms.saturating_mul(1_000_000)),
            last_ns: 0,
            size,
        };
        (cast, format!("{header}\n"))
    }

    /// Appends what was written at a time.
    pub(super) fn output(&mut self, at_ns: u64, bytes: &[u8], out: &mut String) {
        let mut text = String::with_capacity(bytes.len());
        self.decoder.push(bytes, |c, _| text.push(c));
        if !text.is_empty() {
            self.line(at_ns, "o", &text, out);
        }
    }

    /// Appends a change of the terminal's size.
    pub(super) fn resize(&mut self, at_ns: u64, size: TerminalSize, out: &mut String) {
        if self.size != size {
            self.size = size;
            let text = format!("{}x{}", size.cols, size.rows);
            self.line(at_ns, "r", &text, out);
        }
    }

    /// Appends that bytes are gone.
    pub(super) fn gap(&mut self, at_ns: u64, bytes: u64, out: &mut String) {
        self.finish(out);
        let text = format!("{bytes} bytes are not kept");
        self.line(at_ns, "m", &text, out);
    }

    /// Appends what was held back.
    pub(super) fn finish(&mut self, out: &mut String) {
        let mut text = String::new();
        self.decoder.finish(|c, _| text.push(c));
        if !text.is_empty() {
            let at = self.start_ns.unwrap_or(0).saturating_add(self.last_ns);
            self.line(at, "o", &text, out);
        }
    }

    fn line(&mut self, at_ns: u64, kind: &str, text: &str, out: &mut String) {
        let start = *self.start_ns.get_or_insert(at_ns);
        self.last_ns = at_ns.saturating_sub(start).max(self.last_ns);
        let (seconds, rest) = (self.last_ns / 1_000_000_000, self.last_ns % 1_000_000_000);
        let text = json!(text);
        out.push_str(&format!(
            "[{seconds}.{:06},\"{kind}\",{text}]\n",
            rest / 1000
        ));
    }
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::{Command, RunId, RunSpec};
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn run() -> Run {
        let run = json!({
            "id": RunId::random(), "spec": RunSpec::new(Command::LoginShell), "state": "exited", "createdMs": 5_000,
            "startedMs": 6_500, "host": "node",
        });
        serde_json::from_value(run).unwrap()
    }

    const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

    #[test]
    fn a_recording_is_a_header_and_events_with_times_from_the_start() {
        let (mut cast, header) = Cast::start(&run(), SIZE);
        let header: Value = serde_json::from_str(&header).unwrap();
        assert_eq!(header["version"], 2);
        assert_eq!(
            (&header["width"], &header["height"]),
            (&json!(80), &json!(24))
        );
        assert_eq!(
            (&header["timestamp"], &header["title"]),
            (&json!(6), &json!("login shell"))
        );
        let mut out = String::new();
        cast.output(7_000_000_000, b"caf\xc3", &mut out);
        cast.output(7_250_000_000, b"\xa9\x1b[m\r\n", &mut out);
        cast.resize(7_250_000_000, SIZE, &mut out);
        // The clock was set back.
        cast.resize(6_000_000_000, TerminalSize { cols: 9, rows: 3 }, &mut out);
        cast.output(8_000_000_000, b"\xe2\x82", &mut out);
        cast.gap(8_500_000_000, 12, &mut out);
        let expected = concat!(
            "[0.500000,\"o\",\"caf\"]\n",
            "[0.750000,\"o\",\"\u{e9}\\u001b[m\\r\\n\"]\n",
            "[0.750000,\"r\",\"9x3\"]\n",
            "[0.750000,\"o\",\"\u{fffd}\"]\n",
            "[2.000000,\"m\",\"12 bytes are not kept\"]\n",
        );
        assert_eq!(out, expected);
    }

    proptest! {
        #[test]
        fn every_line_is_json_and_the_text_is_the_stream(
            pieces in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..30)), 0..8),
        ) {
            let (mut cast, _) = Cast::start(&run(), SIZE);
            let (mut out, mut all, mut last) = (String::new(), vec![], 0.0);
            for (at, bytes) in &pieces {
                cast.output(*at, bytes, &mut out);
                all.extend(bytes);
            }
            cast.finish(&mut out);
            let mut text = String::new();
            for line in out.lines() {
                let (at, kind, piece): (f64, String, String) = serde_json::from_str(line).unwrap();
                prop_assert!(kind == "o" && at >= last);
                (last, text) = (at, text + &piece);
            }
            prop_assert_eq!(text, String::from_utf8_lossy(&all));
        }
    }
}
