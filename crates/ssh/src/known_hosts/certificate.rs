//! Host certificates: signed by an authority that known_hosts lists for the host, for its name, and for now.
//!
//! Invariants: a certificate that is not good takes nothing from a key that is listed by itself, and gives it nothing.

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::entry::Mark;
use super::{KnownHost, Verdict, wildcard_match};

impl KnownHost {
    pub(super) fn judge_certificate(&self, certificate: &Certificate) -> Verdict {
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let Ok(authority_blob) = authority.to_bytes() else {
            return Verdict::New;
        };
        let revoked = self
            .revokes(&authority_blob)
            .or_else(|| key.to_bytes().ok().and_then(|blob| self.revokes(&blob)));
        if let Some(place) = revoked {
            return Verdict::Revoked(place);
        }
        let trusted = self
            .all()
            .any(|(_, entry)| entry.mark == Mark::Authority && entry.key == authority_blob);
        if !trusted {
            return self.judge_key(&key);
        }
        match (
            self.check_certificate(certificate, &authority),
            self.judge_key(&key),
        ) {
            (Ok(()), _) => Verdict::Known,
            // A bad certificate takes nothing from a key that is listed by itself.
            (Err(_), Verdict::Known) => Verdict::Known,
            (Err(reason), _) => Verdict::BadCertificate(reason),
        }
    }

    fn check_certificate(
        &self,
        certificate: &Certificate,
        authority: &PublicKey,
    ) -> Result<(), String> {
        if certificate.cert_type() != CertType::Host {
            return Err("it is not a host certificate".to_owned());
        }
        if matches!(
            certificate.signature().algorithm(),
            Algorithm::Rsa { hash: None } | Algorithm::Dsa
        ) {
            return Err("it is signed with SHA-1".to_owned());
        }
        let mut names = certificate.valid_principals().iter();
        if !names.any(|name| wildcard_match(name, &self.hostname)) {
            return Err(format!("it is not for {}", self.hostname));
        }
        if !certificate.critical_options().is_empty() {
            return Err("it has conditions that are not understood".to_owned());
        }
        certificate
            .validate([&authority.fingerprint(HashAlg::Sha256)])
            .map_err(|_| "it is expired, not yet valid, or its signature is wrong".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{P256, at, known, line, private};
    use super::*;
    use russh::keys::PublicKeyOrCertificate;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::Builder;

    #[test]
    fn a_host_certificate_counts_for_its_names_while_it_is_valid() {
        let authority = private(Algorithm::Ed25519);
        let host = private(P256);
        let signed = |name: &str, from: u64, to: u64| {
            let public = host.public_key().clone();
            let mut builder =
                Builder::new_with_random_nonce(&mut safe_rng(), public, from, to).unwrap();
            builder.cert_type(CertType::Host).unwrap();
            builder.valid_principal(name).unwrap();
            PublicKeyOrCertificate::Certificate(builder.sign(&authority).unwrap())
        };
        let trusting = known(
            &line("@cert-authority *.example", &authority),
            "[a.example]:22000",
        );
        assert!(trusting.has_authority());
        let good = signed("a.example", 0, 4_000_000_000);
        assert_eq!(trusting.judge(&good), Verdict::Known);
        for bad in [
            signed("b.example", 0, 4_000_000_000),
            signed("a.example", 0, 1_000),
        ] {
            assert!(matches!(trusting.judge(&bad), Verdict::BadCertificate(_)));
        }
        assert_eq!(known("", "a.example").judge(&good), Verdict::New);
        let revoking = line("@cert-authority *", &authority) + &line("@revoked *", &authority);
        assert_eq!(
            known(&revoking, "a.example").judge(&good),
            Verdict::Revoked(at(2))
        );
    }
}
