//! How the login was made: host key, authentication, certificate, and the way to the agent.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use hpcclient_protocol::bridge::{Certificate, ClusterStatus, Login, Route, Transport};
use hpcclient_ssh::Destination;
use tokio::{process::Command, time::timeout};

use super::{
    finding::{Finding, span},
    local::{Target, shown},
};

/// How long `ssh-keygen` may take to look through a file.
const SEARCH: Duration = Duration::from_secs(5);

/// Below this a certificate should be renewed before work begins.
const SHORT: Duration = Duration::from_secs(3600);

/// Looks at a connection.
pub(super) async fn look(target: &Target, status: &ClusterStatus) -> Vec<Finding> {
    let known = known_lines(&target.destination).await;
    let login = status.login.as_ref();
    let mut findings = Vec::new();
    findings.extend(host_key(login, &known));
    findings.extend(login.and_then(authentication));
    let certificate = login.and_then(|login| login.certificate.as_ref());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    findings.extend(certificate.map(|one| judge_certificate(one, now.unwrap_or_default(), target)));
    findings.extend(route(status));
    findings
}

fn host_key(login: Option<&Login>, known: &[(PathBuf, u32)]) -> Option<Finding> {
    let places: Vec<_> = known
        .iter()
        .map(|(file, line)| format!("{} line {line}", shown(file)))
        .collect();
    let key = login.and_then(|login| login.host_key.as_deref());
    let detail = match (key, places.is_empty()) {
        (Some(key), true) => format!("{key}, not listed by this name in known_hosts"),
        (Some(key), false) => format!("{key}, known by {}", places.join(", ")),
        (None, false) => format!("known by {}", places.join(", ")),
        (None, true) => return None,
    };
    Some(Finding::ok("host key", detail))
}

fn authentication(login: &Login) -> Option<Finding> {
    let used = (!login.used.is_empty()).then(|| login.used.join(", then "));
    let offered = (!login.offered.is_empty())
        .then(|| format!("the server takes {}", login.offered.join(", ")));
    let parts: Vec<_> = [used, offered].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| Finding::ok("authentication", parts.join("; ")))
}

fn judge_certificate(one: &Certificate, now: Duration, target: &Target) -> Finding {
    let which = format!("{} ({})", one.key_id, one.source);
    let renew = if target.renews {
        format!("renew it: the `renew_command` of {} does", target.name)
    } else {
        "renew it as the site says (often `step ssh login`); `renew_command` in config.toml can do it"
            .to_owned()
    };
    let Some(until) = one.valid_until_ms.map(Duration::from_millis) else {
        return Finding::ok("certificate", format!("{which}: no end"));
    };
    match until.checked_sub(now) {
        None | Some(Duration::ZERO) => {
            let ago = span(now.saturating_sub(until).as_secs());
            // The connection that is there goes on; the next login will not.
            Finding::fail("certificate", format!("{which} ended {ago} ago"), renew)
        }
        Some(left) => {
            let detail = format!("{which}: valid {}", span(left.as_secs()));
            if left < SHORT {
                Finding::warn("certificate", detail, renew)
            } else {
                Finding::ok("certificate", detail)
            }
        }
    }
}

/// The way to the agent, and why it is not another one.
fn route(status: &ClusterStatus) -> Option<Finding> {
    let is_openssh = status
        .login
        .as_ref()
        .is_some_and(|login| login.transport == Transport::Openssh);
    let way = match (status.route?, is_openssh) {
        (_, true) => {
            "`hpcagent connect` over the standard streams of one ssh process; that works where \
             forwarding does not, so no socket is forwarded"
        }
        (Route::Streamlocal, false) => "a forwarded Unix socket",
        (Route::Exec, false) => {
            "`hpcagent connect` in one session, because the server refuses forwarded sockets \
             (AllowStreamLocalForwarding no or DisableForwarding yes)"
        }
    };
    let mut detail = format!("{way}; no TCP port, which all users of the node could connect to");
    if let (Some(via), Some(node)) = (&status.via, &status.node) {
        detail.push_str(&format!(
            "; the login landed on {via}, a hop leads to {node}"
        ));
    }
    Some(Finding::ok("way to agent", detail))
}

/// Finds the lines of known_hosts with the host's name; `ssh-keygen` also finds hashed ones.
async fn known_lines(destination: &Destination) -> Vec<(PathBuf, u32)> {
    let name = destination.host_key_name();
    let mut found = Vec::new();
    for file in destination.known_hosts.iter().filter(|file| file.exists()) {
        let mut command = Command::new("ssh-keygen");
        command.args(["-F", &name, "-f"]).arg(file);
        command.stdin(Stdio::null()).kill_on_drop(true);
        // Without the program the line is not named, and nothing else is missing.
        let Ok(Ok(output)) = timeout(SEARCH, command.output()).await else {
            continue;
        };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        found.extend(line_numbers(&text).map(|line| (file.clone(), line)));
    }
    found
}

/// Reads the `# Host x found: line 3` of `ssh-keygen -F`.
fn line_numbers(text: &str) -> impl Iterator<Item = u32> {
    text.lines().filter_map(|line| {
        let (_, line) = line.strip_prefix("# Host ")?.split_once(" found: line ")?;
        line.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use hpcclient_protocol::bridge::ClusterState;
    use hpcclient_ssh::DestinationOptions;

    use super::{super::finding::State, *};

    fn login(transport: Transport) -> Login {
        Login {
            transport,
            offered: vec!["publickey".to_owned(), "password".to_owned()],
            used: vec![
                "publickey (key ~/.ssh/id)".to_owned(),
                "password".to_owned(),
            ],
            certificate: None,
            host_key: Some("ssh-ed25519 SHA256:abc".to_owned()),
            server: None,
            hops: vec![],
        }
    }

    fn status(route: Route, transport: Transport) -> ClusterStatus {
        ClusterStatus {
            name: "site".to_owned(),
            destination: "me@site:22".to_owned(),
            state: ClusterState::Connected,
            node: Some("login2".to_owned()),
            route: Some(route),
            agent_version: None,
            via: None,
            login: Some(login(transport)),
            waiting: None,
            retry_ms: None,
            notices: vec![],
            channels_opened: 1,
            since_ms: 0,
            error: None,
        }
    }

    #[test]
    fn the_way_is_told_with_why_the_others_are_not_taken() {
        let told = |route, transport| route_of(&status(route, transport));
        assert!(told(Route::Streamlocal, Transport::Russh).starts_with("a forwarded Unix socket"));
        assert!(told(Route::Exec, Transport::Russh).contains("DisableForwarding"));
        assert!(told(Route::Exec, Transport::Openssh).contains("one ssh process"));
        let mut hop = status(Route::Exec, Transport::Russh);
        hop.via = Some("login1".to_owned());
        assert!(route_of(&hop).ends_with("landed on login1, a hop leads to login2"));
    }

    fn route_of(status: &ClusterStatus) -> String {
        route(status).unwrap().detail
    }

    #[test]
    fn the_host_key_and_the_methods_are_named() {
        let login = login(Transport::Russh);
        let known = [(PathBuf::from("/k/known_hosts"), 3)];
        let key = host_key(Some(&login), &known).unwrap();
        assert_eq!(
            key.detail,
            "ssh-ed25519 SHA256:abc, known by /k/known_hosts line 3"
        );
        assert_eq!(host_key(None, &[]), None);
        let used = authentication(&login).unwrap();
        assert_eq!(
            used.detail,
            "publickey (key ~/.ssh/id), then password; the server takes publickey, password"
        );
        let text =
            "# Host [h]:22 found: line 12 \n|1|x= ssh-ed25519 AAAA\n# Host h found: line 2 CA\n";
        assert_eq!(line_numbers(text).collect::<Vec<_>>(), [12, 2]);
    }

    #[tokio::test]
    async fn a_certificate_is_judged_by_what_is_left() {
        let options = DestinationOptions {
            destination: "me@site".to_owned(),
            ssh_config: Some("/dev/null".into()),
            ..Default::default()
        };
        let target = Target {
            name: "site".to_owned(),
            destination: Destination::resolve(&options).await.unwrap(),
            renews: true,
        };
        let now = Duration::from_secs(1_000_000);
        for (until, state, words) in [
            (None, State::Ok, "no end"),
            (Some(1_011_400_000), State::Ok, "valid 3 h 10 m"),
            (Some(1_000_600_000), State::Warn, "valid 10 m 0 s"),
            (Some(999_940_000), State::Fail, "ended 1 m 0 s ago"),
        ] {
            let one = Certificate {
                key_id: "me@site".to_owned(),
                source: "ssh-agent".to_owned(),
                valid_until_ms: until,
            };
            let finding = judge_certificate(&one, now, &target);
            assert_eq!(finding.state, state, "{finding:?}");
            assert!(finding.detail.contains(words), "{finding:?}");
            assert_eq!(finding.fix.is_some(), state != State::Ok);
        }
    }
}
