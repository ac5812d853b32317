//! Resolving a destination and the hosts on the way to it, each through the same configuration.
//!
//! As in OpenSSH, the first host of a `ProxyJump` list is reached as its own part of the configuration says, and each
//! further one through the one before. Of the cluster's own entry, the identity, the certificate and known_hosts serve
//! the hops too; user, port and host are the cluster's alone.
//!
//! Invariants: resolving ends, whatever the configuration says: no host is asked for twice on one way, and no way is
//! deeper than [`DEEPEST`].

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::address::Address;
use super::assemble::assemble;
use super::local::Local;
use super::settings::Settings;
use super::{Destination, DestinationOptions, TransportChoice, config_file, not_honoured, openssh};
use crate::SshError;
use crate::prompt::visible;

/// More hosts are not gone through one after the other.
const DEEPEST: usize = 8;

/// Resolves what the user named.
pub(super) async fn resolve(options: &DestinationOptions) -> Result<Destination, SshError> {
    let resolver = Resolver {
        local: Local::here().await,
        ticket: OnceCell::new(),
    };
    let named = Address::parse(options.host.as_deref().unwrap_or(&options.destination))?;
    let asked = Address {
        host: named.host,
        user: options.user.clone().or(named.user),
        port: options.port.or(named.port),
    };
    asked.check()?;
    resolver.resolve(options, &asked, &[], true).await
}

struct Resolver {
    local: Local,
    /// Why GSSAPI would be used, looked up once.
    ticket: OnceCell<Option<String>>,
}

impl Resolver {
    /// Resolves a host through which those in `behind` are to be reached. A host in the middle of a `ProxyJump` list
    /// does not look for a way of its own.
    fn resolve<'a>(
        &'a self,
        options: &'a DestinationOptions,
        asked: &'a Address,
        behind: &'a [Address],
        looks_for_way: bool,
    ) -> BoxFuture<'a, Result<Destination, SshError>> {
        async move {
            let config = options.ssh_config.as_deref();
            let (mut settings, has_openssh) = match openssh::settings(asked, config).await? {
                Some(settings) => (settings, true),
                None => {
                    let settings = config_file::settings(asked, config, &self.local).await?;
                    (settings, false)
                }
            };
            if !behind.is_empty() {
                // `ssh -W`, which goes through a host, does not do these either.
                settings.unused.retain(|unused| !unused.by_openssh_too);
            }
            let (mut found, proxy_jump) = assemble(options, asked, &settings, &self.local)?;
            if !looks_for_way {
                found.proxy_command = None;
            } else if let Some(list) = proxy_jump {
                let behind = [behind, std::slice::from_ref(asked)].concat();
                found.jumps = self.hops(&list, options, &behind).await?;
            }
            let reasons = self.reasons(&settings, &found).await;
            say(&mut found, &settings, &reasons, has_openssh);
            Ok(found)
        }
        .boxed()
    }

    async fn hops(
        &self,
        list: &str,
        options: &DestinationOptions,
        behind: &[Address],
    ) -> Result<Vec<Destination>, SshError> {
        let mut hops = vec![];
        for text in list.split(',').map(str::trim) {
            let hop = Address::parse(text)?;
            let circle = behind.contains(&hop);
            if circle || behind.len() + hops.len() > DEEPEST {
                return Err(endless(behind, &hop, circle));
            }
            let options = DestinationOptions {
                destination: text.to_owned(),
                host: None,
                user: hop.user.clone(),
                port: hop.port,
                ..options.clone()
            };
            let first = hops.is_empty();
            hops.push(self.resolve(&options, &hop, behind, first).await?);
        }
        Ok(hops)
    }

    /// Why the `ssh` program is needed, for this host or one on the way.
    async fn reasons(&self, settings: &Settings, found: &Destination) -> Vec<String> {
        let mut reasons = settings.needs_openssh.clone();
        reasons.extend(not_honoured::security_key(&found.identity_files).await);
        if found.gssapi {
            let ticket = self.ticket.get_or_init(not_honoured::live_ticket).await;
            reasons.extend(ticket.clone());
        }
        reasons.extend(
            found
                .jumps
                .iter()
                .filter_map(|hop| hop.only_openssh.clone()),
        );
        reasons
    }
}

/// Decides on the `ssh` program, and notes what nobody will do.
fn say(found: &mut Destination, settings: &Settings, reasons: &[String], has_openssh: bool) {
    let choice = found.options.transport;
    if choice == TransportChoice::Auto && has_openssh {
        found.only_openssh = reasons.first().cloned();
    }
    let by_openssh = choice == TransportChoice::Openssh || found.only_openssh.is_some();
    let mut notes = settings.remarks.clone();
    if !by_openssh {
        let without = if choice == TransportChoice::Russh {
            "`transport = \"russh\"` leaves it out"
        } else {
            "there is no ssh program here, which it would need"
        };
        notes.extend(reasons.iter().map(|reason| format!("{reason}: {without}")));
    }
    let unused = settings.unused.iter();
    notes.extend(
        unused
            .filter(|unused| unused.by_openssh_too || !by_openssh)
            .map(|unused| unused.note.clone()),
    );
    if let (false, Some(note)) = (by_openssh, not_honoured::algorithms(&settings.algorithms)) {
        notes.push(note);
    }
    // The ssh program sees to the hops itself.
    let hops = found.jumps.iter().filter(|_| !by_openssh);
    let of_hops: Vec<String> = hops
        .flat_map(|hop| hop.notes.iter().map(move |note| (hop, note)))
        // What is set for every host is said once.
        .filter(|(_, note)| !notes.contains(note))
        .map(|(hop, note)| format!("jump host {}: {note}", visible(&hop.host_alias)))
        .collect();
    notes.extend(of_hops);
    found.notes = notes;
}

fn endless(behind: &[Address], hop: &Address, circle: bool) -> SshError {
    let names = behind.iter().chain([hop]);
    let names: Vec<&str> = names.map(|address| address.host.as_str()).collect();
    let what = if circle {
        "goes in a circle"
    } else {
        "goes through too many hosts"
    };
    SshError::Resolve {
        destination: names.first().copied().unwrap_or_default().to_owned(),
        reason: format!(
            "its ProxyJump {what} ({}); give the host that is reached directly, perhaps {}, a `ProxyJump none` in the \
             ssh configuration",
            names.join(" through "),
            hop.host,
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// Resolves with the installed `ssh`.
    async fn resolved(
        config: &str,
        change: impl FnOnce(&mut DestinationOptions),
    ) -> Result<Destination, SshError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), config).unwrap();
        let mut options = DestinationOptions {
            destination: "cluster".to_owned(),
            ssh_config: Some(file.path().to_owned()),
            ..DestinationOptions::default()
        };
        change(&mut options);
        resolve(&options).await
    }

    #[tokio::test]
    async fn each_hop_is_resolved_by_its_own_part_of_the_configuration() {
        let config = "Host cluster\n HostName login.example\n User alice\n\
                      ProxyJump gate,bob@second:2222,[::1]:33\n\
                      Host gate\n HostName gate.example\n User carol\n ProxyCommand nc %h %p\n\
                      Host second\n HostName second.example\n User dora\n ProxyJump elsewhere\n\
                      IdentityFile /keys/second\n";
        let found = resolved(config, |options| {
            options.user = Some("eve".to_owned());
            options.port = Some(99);
            options.identity_file = Some("/keys/mine".into());
            options.certificate_file = Some("/keys/mine-cert.pub".into());
            options.known_hosts = Some("/known".into());
        })
        .await
        .unwrap();
        assert_eq!((found.user.as_str(), found.port), ("eve", 99));
        let hops: Vec<_> = found
            .jumps
            .iter()
            .map(|hop| (hop.user.as_str(), hop.hostname.as_str(), hop.port))
            .collect();
        assert_eq!(hops.len(), 3);
        assert_eq!(hops[0], ("carol", "gate.example", 22));
        assert_eq!(hops[1], ("bob", "second.example", 2222));
        assert_eq!((hops[2].1, hops[2].2), ("::1", 33));
        assert_eq!(found.jumps[1].host_alias, "bob@second:2222");
        // Only the first has a way of its own.
        let command = found.jumps[0].proxy_command.as_deref();
        assert_eq!(command, Some("nc gate.example 22"));
        assert!(found.jumps[1].jumps.is_empty());
        for hop in &found.jumps {
            assert_eq!(hop.known_hosts[0], PathBuf::from("/known"));
            assert_eq!(hop.identity_files[0], PathBuf::from("/keys/mine"));
            assert_eq!(
                hop.certificate_files,
                [PathBuf::from("/keys/mine-cert.pub")]
            );
        }
        let second = &found.jumps[1].identity_files;
        assert!(second.contains(&PathBuf::from("/keys/second")));
    }

    #[tokio::test]
    async fn the_first_hop_may_be_behind_another() {
        let config = "Host cluster\n ProxyJump inner\nHost inner\n ProxyJump outer\n";
        let found = resolved(config, |_| ()).await.unwrap();
        assert_eq!(found.jumps[0].hostname, "inner");
        assert_eq!(found.jumps[0].jumps[0].hostname, "outer");
        assert!(found.jumps[0].jumps[0].jumps.is_empty());
    }

    #[tokio::test]
    async fn a_way_without_an_end_is_refused() {
        for (config, said) in [
            ("Host *\n ProxyJump gate\n", "jumphost loop via gate"),
            (
                "Host cluster\n ProxyJump a\nHost a\n ProxyJump cluster\n",
                "cluster through a through cluster",
            ),
            ("Host *\n ProxyJump x%h\n", "too many hosts"),
            (
                "Host cluster\n ProxyJump a,a,a,a,a,a,a,a,a,a\n",
                "too many hosts",
            ),
        ] {
            let refused = resolved(config, |_| ()).await.unwrap_err().to_string();
            assert!(refused.contains(said), "{refused}");
            assert!(refused.contains("ProxyJump none"), "{refused}");
        }
    }

    #[tokio::test]
    async fn what_only_the_ssh_program_can_do_is_left_to_it() {
        let config = "Host cluster\n ProxyJump gate\n BindAddress ::1\n ForwardAgent yes\n\
                      Host gate\n PKCS11Provider /lib/p.so\n LocalForward 1 localhost:1\n";
        let found = resolved(config, |_| ()).await.unwrap();
        let reason = found.only_openssh.unwrap();
        assert_eq!(reason, "the ssh configuration has PKCS11Provider /lib/p.so");
        assert_eq!(
            found.notes,
            ["ForwardAgent yes of the ssh configuration is not used"]
        );

        let russh = |options: &mut DestinationOptions| options.transport = TransportChoice::Russh;
        let found = resolved(config, russh).await.unwrap();
        assert_eq!(found.only_openssh, None);
        for said in [
            "jump host gate: the ssh configuration has PKCS11Provider",
            "BindAddress ::1",
        ] {
            assert!(found.notes.iter().any(|note| note.contains(said)), "{said}");
        }
        let of_hops = found
            .notes
            .iter()
            .filter(|note| note.starts_with("jump host"));
        assert_eq!(of_hops.count(), 1);
    }

    #[tokio::test]
    async fn a_ticket_counts_only_where_gssapi_may_be_used() {
        let resolver = Resolver {
            local: Local::here().await,
            ticket: OnceCell::new_with(Some(Some("there is a ticket".to_owned()))),
        };
        for (config, reason) in [
            ("GSSAPIAuthentication yes\n", Some("there is a ticket")),
            ("GSSAPIAuthentication no\n", None),
            (
                "GSSAPIAuthentication yes\nPreferredAuthentications publickey\n",
                None,
            ),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), config).unwrap();
            let options = DestinationOptions {
                ssh_config: Some(file.path().to_owned()),
                ..DestinationOptions::default()
            };
            let asked = Address::parse("cluster").unwrap();
            let found = resolver.resolve(&options, &asked, &[], true).await.unwrap();
            assert_eq!(found.gssapi, reason.is_some());
            assert_eq!(found.only_openssh.as_deref(), reason);
        }
    }

    #[test]
    fn without_an_ssh_program_its_work_is_noted() {
        let options = DestinationOptions::default();
        let settings = Settings {
            hostname: Some("h".to_owned()),
            user: Some("u".to_owned()),
            ..Settings::default()
        };
        let local = Local {
            home: "/".into(),
            user: None,
            uid: 0,
            hostname: String::new(),
        };
        let asked = Address::parse("h").unwrap();
        let (mut found, _) = assemble(&options, &asked, &settings, &local).unwrap();
        say(&mut found, &settings, &["a reason".to_owned()], false);
        assert_eq!(found.only_openssh, None);
        assert!(found.notes[0].starts_with("a reason: there is no ssh program"));
        say(&mut found, &settings, &["a reason".to_owned()], true);
        assert_eq!(found.only_openssh.as_deref(), Some("a reason"));
        assert!(found.notes.is_empty());
    }
}
