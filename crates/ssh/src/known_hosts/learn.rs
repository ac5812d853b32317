//! Which of a server's further keys may be added, and because of which key.

use russh::keys::{PublicKey, PublicKeyOrCertificate};

use super::entry::{Entry, Mark};
use super::{KnownHost, Place};
use crate::algorithms;

/// A server does not announce more keys than this.
const MOST_ANNOUNCED: usize = 16;

impl KnownHost {
    /// Whether more keys of this server may be added because of the key it showed: if that is listed in the file to
    /// which keys are added, on a line for this host alone, and no authority stands for it.
    pub(crate) fn may_learn_from(&self, shown: &PublicKeyOrCertificate) -> bool {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return false;
        };
        let (Some(own), Ok(blob)) = (&self.own_file, key.to_bytes()) else {
            return false;
        };
        self.lines.iter().any(|(place, entry)| {
            entry.mark == Mark::None
                && entry.key == blob
                && place.file == *own
                && entry.names_one_host()
        })
    }

    /// Those of a server's announced keys that are of a usable type and neither listed nor revoked.
    pub(crate) fn unlisted(&self, keys: Vec<PublicKey>) -> Vec<PublicKey> {
        let new = keys.into_iter().take(MOST_ANNOUNCED).filter(|key| {
            let usable = algorithms::accepts(key);
            usable
                && key.to_bytes().is_ok_and(|blob| {
                    let listed =
                        |(_, entry): &(Place, Entry)| entry.mark == Mark::None && entry.key == blob;
                    !self.lines.iter().any(listed) && self.revokes(&blob).is_none()
                })
        });
        new.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{P256, hashed, known, line, private};
    use super::*;
    use russh::keys::Algorithm;
    use std::path::PathBuf;

    #[test]
    fn what_may_be_learnt_and_from_whom() {
        let key = private(Algorithm::Ed25519);
        let shown = key.public_key().clone().into();
        let may = |text: &str, own: &str| {
            let mut known = known(text, "login");
            known.own_file = Some(PathBuf::from(own));
            known.may_learn_from(&shown)
        };
        for (hosts, learn) in [
            ("login", true),
            (&*hashed("login"), true),
            ("login,10.0.0.1", false),
            ("log*", false),
        ] {
            assert_eq!(may(&line(hosts, &key), "known_hosts"), learn, "{hosts}");
        }
        assert!(!may(&line("login", &key), "another file"));
        assert!(!may(&line("login", &private(P256)), "known_hosts"));

        let (listed, revoked, new) = (key, private(P256), private(P256));
        let text = line("login", &listed) + &line("@revoked *", &revoked);
        let announced = [&listed, &revoked, &new].map(|key| key.public_key().clone());
        let unlisted = known(&text, "login").unlisted(announced.into());
        assert_eq!(unlisted, [new.public_key().clone()]);
        let many = vec![new.public_key().clone(); 1_000];
        assert_eq!(known("", "login").unlisted(many).len(), MOST_ANNOUNCED);
    }
}
