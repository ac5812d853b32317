//! Finding the end of a command in a stream of bytes of which the command may write any.
//!
//! Invariants: what cannot be told from the command's own bytes is not held back, because the stream's other side may be
//! waiting for just those; so the first few bytes of a mark get through if the mark comes in pieces.

/// How much of a mark has to be there before it is held back: some of the nonce, which nobody writes by chance.
const HELD: usize = START.len() + 8;
const START: &str = "\n@hpcclient ";
/// An exit status has three digits at most.
const MOST_DIGITS: usize = 3;

/// Looks for a mark `\n@hpcclient <nonce>=<code>\n` in a buffer that grows at its end and is taken from at its front.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    /// Everything up to the `=`. Its first byte occurs in it once, so that a mismatch never needs a look back.
    mark: Vec<u8>,
    /// How much of it, and of the digits behind it, the last bytes are.
    seen: usize,
    code: Vec<u8>,
    /// How much of the buffer was looked at.
    looked: usize,
    /// The exit status, and the length of the mark.
    end: Option<(u32, usize)>,
}

impl Finder {
    pub(super) fn new(nonce: &str) -> Self {
        Self {
            mark: format!("{START}{nonce}=").into_bytes(),
            seen: 0,
            code: vec![],
            looked: 0,
            end: None,
        }
    }

    /// Looks at what was added to the buffer.
    pub(super) fn look(&mut self, buffer: &[u8]) {
        while let Some(rest) = buffer.get(self.looked..).filter(|rest| !rest.is_empty()) {
            if self.end.is_some() {
                return;
            }
            if self.seen == 0 {
                let start = rest.iter().position(|byte| *byte == b'\n');
                self.seen = usize::from(start.is_some());
                self.looked += start.map_or(rest.len(), |skip| skip + 1);
            } else {
                self.step(rest.first().copied().unwrap_or_default());
                self.looked += 1;
            }
        }
    }

    fn step(&mut self, byte: u8) {
        let in_code = self.seen >= self.mark.len();
        if !in_code && self.mark.get(self.seen) == Some(&byte) {
            self.seen += 1;
        } else if in_code && byte.is_ascii_digit() && self.code.len() < MOST_DIGITS {
            self.seen += 1;
            self.code.push(byte);
        } else if in_code && byte == b'\n' {
            let code = std::str::from_utf8(&self.code).unwrap_or_default();
            self.end = Some((code.parse().unwrap_or(u32::MAX), self.seen + 1));
        } else {
            self.seen = usize::from(byte == b'\n');
            self.code.clear();
        }
    }

    /// How many bytes at the front of the buffer are the command's.
    pub(super) fn ready(&self) -> usize {
        let held = match self.end {
            Some((_, length)) => length,
            None if self.seen >= HELD => self.seen,
            None => 0,
        };
        self.looked.saturating_sub(held)
    }

    /// Tells that some of them were taken away.
    pub(super) fn taken(&mut self, count: usize) {
        self.looked = self.looked.saturating_sub(count);
    }

    /// The exit status and the end of the mark in the buffer, once it was seen.
    pub(super) fn end(&self) -> Option<(u32, usize)> {
        self.end.map(|(code, _)| (code, self.looked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: &[u8] = b"\n@hpcclient 0123456789abcdef=17\n";

    fn finder() -> Finder {
        Finder::new("0123456789abcdef")
    }

    #[test]
    fn the_end_is_found_behind_any_output() {
        for output in [
            &b""[..],
            b"\n",
            b"out\n@hpc",
            b"\n@hpcclient 0123456789abcdee=1\n",
            b"\n@hpcclient 0123456789abcdef=x\n",
            b"\n\n",
        ] {
            let stream = [output, MARK, b"next"].concat();
            let mut finder = finder();
            finder.look(&stream);
            assert_eq!(finder.ready(), output.len(), "{output:?}");
            assert_eq!(finder.end(), Some((17, output.len() + MARK.len())));
        }
    }

    #[test]
    fn what_anybody_may_write_is_not_held_back() {
        for output in [
            &b"an answer\n"[..],
            b"a file with\n@hpcclient ",
            b"\n@hpcclient 012",
        ] {
            let mut finder = finder();
            finder.look(output);
            assert_eq!((finder.ready(), finder.end()), (output.len(), None));
        }
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_it_is_cut(
            output in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'@'), any::<u8>()], 0..40),
            cuts in proptest::collection::vec(1_usize..40, 1..80),
        ) {
            let stream = [&output[..], MARK].concat();
            let mut finder = finder();
            let (mut buffer, mut through, mut rest) = (vec![], vec![], &stream[..]);
            let mut cuts = cuts.into_iter().cycle();
            while finder.end().is_none() {
                prop_assert!(!rest.is_empty());
                let (piece, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                rest = more;
                buffer.extend_from_slice(piece);
                finder.look(&buffer);
                let ready = finder.ready();
                through.extend(buffer.drain(..ready));
                finder.taken(ready);
            }
            prop_assert_eq!(finder.end(), Some((17, buffer.len())));
            prop_assert!(rest.is_empty());
            prop_assert!(through.starts_with(&output));
            prop_assert!(through.len() < output.len() + HELD);
        }
    }
}
