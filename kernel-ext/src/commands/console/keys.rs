//! The keys that leave a console: `Ctrl-\`, then `d`.

const PREFIX: u8 = 0x1c;

/// Finds them in what is typed.
#[derive(Debug, Default)]
pub(super) struct Keys {
    is_armed: bool,
}

/// What a piece of input means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// What goes to the command.
    pub(super) bytes: Vec<u8>,
    /// Whether to leave after that.
    pub(super) leaves: bool,
}

impl Keys {
    /// Takes a piece of input. `Ctrl-\` twice is one for the command; before any other key it is itself.
    pub(super) fn take(&mut self, input: &[u8]) -> Typed {
        let mut typed = Typed::default();
        for &key in input {
            match (std::mem::take(&mut self.is_armed), key) {
                (false, PREFIX) => self.is_armed = true,
                (true, b'd' | b'D' | 0x04) => {
                    typed.leaves = true;
                    break;
                }
                (true, PREFIX) => typed.bytes.push(PREFIX),
                (true, other) => typed.bytes.extend([PREFIX, other]),
                (false, other) => typed.bytes.push(other),
            }
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys = Keys::default();
        let mut all = Vec::new();
        for piece in pieces {
            let Typed { bytes, leaves } = keys.take(piece);
            all.extend(bytes);
            if leaves {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn only_the_two_keys_one_after_the_other_leave() {
        for (pieces, bytes, leaves) in [
            (
                &[b"ls\r".as_slice(), b"\x1cd"][..],
                b"ls\r".as_slice(),
                true,
            ),
            (&[b"\x1c", b"d", b"more"], b"", true),
            (&[b"\x1c\x1c", b"d"], b"\x1cd", false),
            (&[b"\x1cx", b"d"], b"\x1cxd", false),
            (&[b"d\x1b[A\xc3\xa9"], b"d\x1b[A\xc3\xa9", false),
        ] {
            assert_eq!(typed(pieces), (bytes.to_vec(), leaves), "{pieces:?}");
        }
    }
}
