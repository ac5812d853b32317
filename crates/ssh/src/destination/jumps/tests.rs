//! Ways through other hosts, resolved with the installed `ssh`, and what is left to that program.

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
