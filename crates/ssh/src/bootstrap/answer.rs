//! The node's answer to the bootstrap script: `@hpcclient key=value` lines in the midst of a profile's noise.

/// Ends a complete answer.
pub(super) const END: &[u8] = b"\n@hpcclient end=1\n";

const MARK: &str = "@hpcclient ";

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer(Vec<(String, String)>);

impl Answer {
    /// Reads an answer; nothing if it is not complete.
    pub(super) fn parse(output: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(output);
        let pairs: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(MARK)?.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let answer = Self(pairs);
        answer.get("end").is_some().then_some(answer)
    }

    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let pair = self.0.iter().rev().find(|(name, _)| name == key);
        pair.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_noise_of_a_profile_is_passed_over() {
        let answer = Answer::parse(
            b"Welcome to login1!\nstty: not a tty\xff\n\n@hpcclient uname=Linux x86_64\n\
              module loaded\n@hpcclient hello={\"a\":\"b=c\"}\n\n@hpcclient end=1\n",
        )
        .unwrap();
        assert_eq!(answer.get("uname"), Some("Linux x86_64"));
        assert_eq!(answer.get("hello"), Some("{\"a\":\"b=c\"}"));
        assert_eq!(answer.get("other"), None);
        assert!(Answer::parse(b"@hpcclient uname=Linux\n").is_none());
    }

    proptest! {
        #[test]
        fn no_output_makes_it_panic(output in any::<Vec<u8>>()) {
            let _ = Answer::parse(&output);
        }
    }
}
