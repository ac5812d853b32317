//! Finding the end of a command in a stream of bytes of which the command may write any.
//!
//! Invariants: nothing is held back in wait for more, because the stream's other side may be waiting for just those
//! bytes; so the front part of a mark gets through when the mark comes in pieces.

/// A mark that looks like `\n@hpcclient <nonce>=<code>\n`, and how much of it was seen.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    /// Everything up to the `=`. Its first byte occurs in it once, so that a mismatch never needs a look back.
    mark: Vec<u8>,
    seen: usize,
    code: Vec<u8>,
}

/// What a piece of the stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How many of its first bytes are the command's.
    pub(super) before: usize,
    /// The command's exit status, and where the mark ends.
    pub(super) end: Option<(u32, usize)>,
}

/// An exit status has three digits at most.
const MOST_DIGITS: usize = 3;

impl Finder {
    pub(super) fn new(nonce: &str) -> Self {
        Self {
            mark: format!("\n@hpcclient {nonce}=").into_bytes(),
            seen: 0,
            code: vec![],
        }
    }

    /// Looks at the next piece.
    pub(super) fn look(&mut self, piece: &[u8]) -> Found {
        let mut before = if self.seen == self.mark.len() {
            0
        } else {
            piece.len()
        };
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            if self.seen == 0 {
                let Some(skip) = rest.iter().position(|byte| *byte == b'\n') else {
                    break;
                };
                at += skip + 1;
                self.seen = 1;
                continue;
            }
            let byte = rest.first().copied().unwrap_or_default();
            at += 1;
            if self.seen == self.mark.len() {
                if byte == b'\n' {
                    let code = std::str::from_utf8(&self.code).unwrap_or_default();
                    let code = code.parse().unwrap_or(u32::MAX);
                    self.seen = 0;
                    self.code.clear();
                    return Found {
                        before,
                        end: Some((code, at)),
                    };
                }
                if self.code.len() < MOST_DIGITS {
                    self.code.push(byte);
                }
            } else if self.mark.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.mark.len() {
                    before = at.saturating_sub(self.mark.len());
                }
            } else {
                self.seen = usize::from(byte == b'\n');
            }
        }
        Found { before, end: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: &[u8] = b"\n@hpcclient abc=17\n";

    #[test]
    fn the_end_is_found_behind_any_output() {
        for output in [
            &b""[..],
            b"\n",
            b"out\n@hpc",
            b"\n@hpcclient abd=1\n",
            b"\n\n",
        ] {
            let stream = [output, MARK, b"next"].concat();
            let found = Finder::new("abc").look(&stream);
            let expected = Found {
                before: output.len(),
                end: Some((17, output.len() + MARK.len())),
            };
            assert_eq!(found, expected, "{output:?}");
        }
    }

    #[test]
    fn a_line_feed_is_not_held_back() {
        let found = Finder::new("abc").look(b"an answer\n");
        assert_eq!((found.before, found.end), (10, None));
    }

    proptest! {
        #[test]
        fn the_end_is_found_however_it_is_cut(
            output in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'@'), any::<u8>()], 0..40),
            cuts in proptest::collection::vec(1_usize..9, 1..80),
        ) {
            let stream = [&output[..], MARK].concat();
            let mut finder = Finder::new("abc");
            let (mut through, mut rest, mut cuts) = (vec![], &stream[..], cuts.into_iter().cycle());
            let code = loop {
                let (piece, more) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                rest = more;
                let found = finder.look(piece);
                through.extend_from_slice(&piece[..found.before]);
                if let Some((code, end)) = found.end {
                    prop_assert_eq!(end, piece.len());
                    break code;
                }
            };
            prop_assert_eq!(code, 17);
            prop_assert!(rest.is_empty());
            prop_assert!(through.starts_with(&output));
            prop_assert!(through.len() < output.len() + MARK.len() - 3);
        }
    }
}
