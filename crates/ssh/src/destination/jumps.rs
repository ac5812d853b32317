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
    let asked = options.asked()?;
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
mod tests;
