//! Bytes to characters, as they come: what is not UTF-8 becomes `U+FFFD`.
//!
//! Invariants: where the bytes are cut into pieces does not matter; at most three are held back.

use std::str::from_utf8;

/// Decodes one stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The first bytes of a character whose last ones have not come.
    held: Vec<u8>,
}

impl Decoder {
    /// Hands out each character with the number of bytes that it was.
    pub(super) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(char, usize)) {
        let mut rest = bytes;
        while !self.held.is_empty() {
            let Some((first, after)) = rest.split_first() else {
                return;
            };
            // One byte at a time until the held ones are a character, or none.
            self.held.push(*first);
            rest = after;
            let held = std::mem::take(&mut self.held);
            let left = decode(&held, &mut each);
            self.held.extend_from_slice(left);
        }
        let left = decode(rest, &mut each);
        self.held.extend_from_slice(left);
    }

    /// Hands out what is held back, as it is the end.
    pub(super) fn finish(&mut self, mut each: impl FnMut(char, usize)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            each(char::REPLACEMENT_CHARACTER, held.len());
        }
    }
}

/// Decodes what is whole and returns the rest.
fn decode<'a>(mut bytes: &'a [u8], each: &mut impl FnMut(char, usize)) -> &'a [u8] {
    loop {
        let error = match from_utf8(bytes) {
            Ok(text) => {
                text.chars().for_each(|c| each(c, c.len_utf8()));
                return &[];
            }
            Err(error) => error,
        };
        let (good, rest) = bytes.split_at(error.valid_up_to());
        let text = from_utf8(good).unwrap_or_default();
        text.chars().for_each(|c| each(c, c.len_utf8()));
        let Some(bad) = error.error_len() else {
            return rest;
        };
        each(char::REPLACEMENT_CHARACTER, bad);
        bytes = rest.get(bad..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_decode_as_the_whole_and_every_byte_is_counted(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..60),
                any::<String>().prop_map(String::into_bytes),
            ],
            cut in any::<[prop::sample::Index; 2]>(),
        ) {
            let mut cuts = cut.map(|cut| cut.index(bytes.len() + 1));
            cuts.sort_unstable();
            let (mut decoder, mut text, mut count) = (Decoder::default(), String::new(), 0);
            for piece in [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..]] {
                decoder.push(piece, |c, len| { text.push(c); count += len; });
            }
            decoder.finish(|c, len| { text.push(c); count += len; });
            prop_assert_eq!(count, bytes.len());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
