//! Which algorithms are offered, in which order.
//!
//! Invariants: no SHA-1, no CBC, no compression; a host key type that is already known is asked for first, because a
//! server that then shows another one is refused; without strict key exchange only ciphers are used that the prefix
//! truncation attack cannot touch.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};
use russh::{Names, Preferred, cipher, compression, kex, mac};

use crate::SshError;
use crate::known_hosts::KnownHost;

/// The NIST curves stand before the finite-field groups, which are slow: servers in FIPS mode know only these two.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G16_SHA512,
    kex::DH_G14_SHA256,
    kex::DH_GEX_SHA256,
    kex::DH_G18_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];

/// AES-GCM is the fastest where the processor knows AES, which is everywhere by now.
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
];

const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];

/// The offer to a host, given what is known of its keys.
pub(crate) fn preferred(known: &KnownHost) -> Preferred {
    let is_known = |algorithm: &Algorithm| {
        // All RSA signatures are made with one type of key, whatever the hash.
        let key_type = match algorithm {
            Algorithm::Rsa { .. } => "ssh-rsa",
            other => other.as_str(),
        };
        known.key_types().any(|known| known == key_type)
    };
    let mut host_keys = HOST_KEYS.to_vec();
    host_keys.sort_by_key(|algorithm| !is_known(algorithm));
    Preferred {
        kex: Cow::Borrowed(KEX),
        host_key_certificates: if known.has_authority() {
            Cow::Owned(host_keys.clone())
        } else {
            Cow::Borrowed(&[])
        },
        key: Cow::Owned(host_keys),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Whether a server may show a key of this type.
pub(crate) fn accepts(key: &PublicKey) -> bool {
    match key.algorithm() {
        Algorithm::Rsa { .. } => true,
        other => HOST_KEYS.contains(&other),
    }
}

/// Refuses what was agreed on if a man in the middle could have cut messages from its start (CVE-2023-48795).
pub(crate) fn refuse_truncatable(names: &Names) -> Result<(), SshError> {
    if names.strict_kex() || !truncatable(names.cipher, &[names.client_mac, names.server_mac]) {
        return Ok(());
    }
    Err(SshError::Protocol {
        reason: format!(
            "the server does not know strict key exchange, without which {} is not safe",
            names.cipher.as_ref()
        ),
    })
}

fn truncatable(cipher: cipher::Name, macs: &[mac::Name]) -> bool {
    let galois = [cipher::AES_128_GCM, cipher::AES_256_GCM];
    let encrypt_then_mac = [mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
    !galois.contains(&cipher)
        && (cipher == cipher::CHACHA20_POLY1305
            || macs.iter().any(|mac| encrypt_then_mac.contains(mac)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_type_is_asked_for_first_and_the_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("known_hosts");
        let key = "AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==";
        std::fs::write(&file, format!("login ssh-rsa {key}\n")).unwrap();
        let known = KnownHost::read(&[file], "login");
        let offer = preferred(&known);
        assert!(offer.key.first().unwrap().clone().is_rsa());
        assert_eq!(offer.key.len(), HOST_KEYS.len());
        assert!(offer.host_key_certificates.is_empty());
        assert_eq!(
            preferred(&KnownHost::default()).key.first(),
            Some(&Algorithm::Ed25519)
        );
    }

    #[test]
    fn only_ciphers_that_can_be_cut_need_strict_key_exchange() {
        let plain = [mac::HMAC_SHA256, mac::HMAC_SHA256];
        let etm = [mac::HMAC_SHA256, mac::HMAC_SHA256_ETM];
        for (cipher, macs, cut) in [
            (cipher::AES_256_GCM, etm, false),
            (cipher::CHACHA20_POLY1305, plain, true),
            (cipher::AES_256_CTR, plain, false),
            (cipher::AES_256_CTR, etm, true),
        ] {
            assert_eq!(truncatable(cipher, &macs), cut);
        }
    }
}
