//! What a site's administrators and a user's own shell do to a login: each case works or ends in one clear sentence.

use anyhow::Result;
use hpcclient_protocol::bridge::Route;
use hpcclient_tests::{Output, Site};

/// The output is `error: …` with these words, and no more than a screen.
fn assert_sentence(output: &Output, words: &[&str]) {
    let text = output.error_text();
    assert!(text.starts_with("error: "), "{text}");
    assert!(output.stdout.is_empty(), "{}", output.text());
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(text.lines().count() <= 6, "too long: {text}");
    assert!(
        !text.contains('\u{1b}') && !text.contains("panicked"),
        "{text}"
    );
}

#[test]
fn each_forwarding_policy_leaves_a_way() -> Result<()> {
    for (options, way) in [
        // These two speak of TCP; sshd refuses forwarded sockets with them too.
        (&["AllowTcpForwarding no"][..], Route::Exec),
        (&["PermitOpen none"], Route::Exec),
        (&["MaxSessions 1"], Route::Streamlocal),
        (&["AllowStreamLocalForwarding no"], Route::Exec),
        (&["AllowStreamLocalForwarding remote"], Route::Exec),
        (&["DisableForwarding yes"], Route::Exec),
        (&["MaxSessions 1", "DisableForwarding yes"], Route::Exec),
    ] {
        let site = Site::with_sshd(options)?;
        for round in ["first", "second"] {
            let output = site.bash(&format!("echo {round}; exit 3"))?;
            assert_eq!(
                (output.code, output.text()),
                (3, format!("{round}\n")),
                "{options:?}: {}",
                output.error_text()
            );
        }
        assert_eq!(site.cluster()?.route, Some(way), "{options:?}");
        assert_eq!(site.sshd().logins(), 1, "{options:?}");
    }
    Ok(())
}

#[test]
fn a_forced_command_is_named_with_what_it_said() -> Result<()> {
    let site = Site::with_sshd(&["ForceCommand echo Only backups may log in here."])?;
    let output = site.bash("true")?;
    assert_sentence(&output, &["Only backups may log in here."]);
    Ok(())
}

#[test]
fn a_server_that_allows_no_session_is_named() -> Result<()> {
    let site = Site::with_sshd(&["MaxSessions 0"])?;
    assert_sentence(&site.bash("true")?, &["refuses to open a channel"]);
    Ok(())
}

#[test]
fn a_banner_stays_out_of_the_output() -> Result<()> {
    let site = Site::with_sshd(&["Banner /etc/os-release"])?;
    let output = site.hpcclient(&["run", "--", "echo", "quiet"])?.success()?;
    assert_eq!(
        (output.text().as_str(), output.error_text().as_str()),
        ("quiet\n", "")
    );
    Ok(())
}

mod as_root {
    use std::{fs, time::Instant};

    use hpcclient_tests::{Account, Env, Setup, python};

    use super::*;

    /// Everything of a command that its user sees: streams, code, folder, environment, session, console's shell.
    fn assert_all_works(site: &Site, what: &str) -> Result<()> {
        let output = site.bash("echo out; echo err >&2; exit 7")?;
        assert_eq!(
            (
                output.code,
                output.text().as_str(),
                output.error_text().as_str()
            ),
            (7, "out\n", "err\n"),
            "{what}"
        );
        let home = site.account()?.home().display().to_string();
        let output = site.hpcclient(&["run", "--", "pwd"])?.success()?;
        assert_eq!(output.text().trim_end(), home, "{what}");
        let output = site.hpcclient(&["run", "--", "printf", "[%s]", "a b;$c", "", "*"])?;
        assert_eq!(output.success()?.text(), "[a b;$c][][*]", "{what}");
        let session = "from hpcclient import *\n\
                       r = hpcrpc.execute('x=5; cd /tmp; echo $BASH_VERSION')\n\
                       assert r.returncode == 0 and r.stdout.strip(), r\n\
                       r = hpcrpc.execute('echo $x; pwd; f() { return 4; }; f')\n\
                       assert r.stdout == '5\\n/tmp\\n' and r.returncode == 4, r\n";
        python(site.env(), session)?.success()?;
        Ok(())
    }

    #[test]
    fn any_login_shell_will_do() -> Result<()> {
        for shell in ["bash", "sh", "csh", "tcsh", "fish"] {
            let site = Site::for_account(shell, &[])?;
            assert_all_works(&site, shell)?;
        }
        Ok(())
    }

    #[test]
    fn any_login_shell_will_do_without_forwarding() -> Result<()> {
        for shell in ["csh", "fish"] {
            let site = Site::for_account(shell, &["DisableForwarding yes"])?;
            assert_all_works(&site, shell)?;
            assert_eq!(site.cluster()?.route, Some(Route::Exec));
        }
        Ok(())
    }

    #[test]
    fn what_the_login_shell_sets_reaches_a_command() -> Result<()> {
        for (shell, file, line) in [
            ("bash", ".bash_profile", "export SITE='a b'\n"),
            ("sh", ".profile", "SITE='a b'; export SITE\n"),
            ("tcsh", ".login", "setenv SITE 'a b'\n"),
            ("csh", ".cshrc", "setenv SITE 'a b'\n"),
            ("fish", ".config/fish/config.fish", "set -x SITE 'a b'\n"),
        ] {
            let site = Site::for_account(shell, &[])?;
            site.account()?.write(file, line)?;
            let output = site.hpcclient(&["run", "--", "printenv", "SITE"])?;
            assert_eq!(output.text(), "a b\n", "{shell}: {}", output.error_text());
        }
        Ok(())
    }

    #[test]
    fn a_chatty_or_strict_profile_does_not_disturb() -> Result<()> {
        for (what, lines) in [
            (
                "chatty",
                "echo Welcome to the machine; echo quota exceeded >&2",
            ),
            ("set -e", "set -e"),
            ("set -u", "set -u"),
            ("set -eu and a failure", "set -u; set -e; true"),
            ("noclobber and globbing off", "set -C; set -f"),
            ("a flood", "yes flood | head -c 200000"),
            ("no newline at the end", "printf 'Last login: never'"),
            (
                "aliases",
                "shopt -s expand_aliases; alias cat=false printf=false exec=false",
            ),
            (
                "functions",
                "printf() { echo never; }; cd() { return 9; }; export -f cd",
            ),
            ("a trap", "trap 'echo bye' EXIT"),
        ] {
            for options in [&[][..], &["DisableForwarding yes"]] {
                let site = Site::for_account("bash", options)?;
                for file in [".bashrc", ".bash_profile"] {
                    site.account()?.write(file, &format!("{lines}\n"))?;
                }
                let output = site.bash("echo quiet; exit 3")?;
                assert_eq!(
                    (output.code, output.text().as_str()),
                    (3, "quiet\n"),
                    "{what} {options:?}: {}",
                    output.error_text()
                );
            }
        }
        Ok(())
    }

    #[test]
    fn a_shell_that_refuses_is_quoted() -> Result<()> {
        let refusals = [
            ("nologin", "This account is currently not available"),
            ("/bin/false", "the login shell said nothing"),
        ];
        for (shell, words) in refusals {
            let site = Site::for_account(shell, &[])?;
            assert_sentence(&site.bash("true")?, &[words]);
        }
        let env = Env::new()?;
        let refusing = env.path("git-only");
        let text = "#!/bin/sh\necho 'fatal: unrecognized command '\"'$2'\" >&2\nexit 128\n";
        fs::write(&refusing, text)?;
        make_executable(&refusing)?;
        let account = Account::new(&env, &refusing.display().to_string())?;
        let setup = Setup::default().account(&account);
        let site = Site::of(env, Some(account), &setup)?;
        assert_sentence(&site.bash("true")?, &["fatal: unrecognized command"]);
        Ok(())
    }

    #[test]
    fn a_restricted_shell_is_named() -> Result<()> {
        let site = Site::for_account("rbash", &[])?;
        assert_sentence(&site.bash("true")?, &["restricted"]);
        Ok(())
    }

    /// Slow: it waits for our own deadline.
    #[test]
    fn a_profile_that_never_ends_costs_a_deadline_and_not_the_day() -> Result<()> {
        let site = Site::for_account("bash", &[])?;
        site.account()?.write(".bashrc", "exec sleep 1000\n")?;
        let start = Instant::now();
        let mut command = site.env().hpcclient(&["run", "--", "true"])?;
        let limit = std::time::Duration::from_secs(100);
        let output = site.env().run_for(&mut command, limit)?;
        assert_sentence(&output, &["did not finish within"]);
        assert!(start.elapsed() < limit);
        Ok(())
    }

    #[test]
    fn a_home_with_spaces_and_an_umlaut_is_a_home() -> Result<()> {
        for options in [&[][..], &["DisableForwarding yes"]] {
            let env = Env::new()?;
            let account = Account::with_home_named(&env, "bash", "Jörgs (new) home & #1; *")?;
            let setup = Setup::new(options).account(&account);
            let site = Site::of(env, Some(account), &setup)?;
            let output = site.bash("pwd; exit 3")?;
            assert_eq!(output.code, 3, "{}", output.error_text());
            assert_all_works(&site, "a home with spaces")?;
        }
        Ok(())
    }

    #[test]
    fn a_home_that_a_shell_would_misread_is_named_and_another_place_helps() -> Result<()> {
        let env = Env::new()?;
        let account = Account::with_home_named(&env, "bash", "Jörg's $HOME")?;
        let setup = Setup::default().account(&account);
        let site = Site::of(env, Some(account), &setup)?;
        let home = site.account()?.home().display().to_string();
        assert_sentence(&site.bash("true")?, &[&home, "a shell could", "node_home"]);
        keep_elsewhere(&site)?;
        assert_all_works(&site, "node_home")
    }

    /// Has the agent in a folder that is not the home.
    fn keep_elsewhere(site: &Site) -> Result<()> {
        let elsewhere = site.env().path("scratch");
        fs::create_dir(&elsewhere)?;
        std::os::unix::fs::chown(&elsewhere, Some(site.account()?.uid()), None)?;
        let line = format!("node_home = \"{}\"", elsewhere.display());
        site.configure(site.sshd().port(), &line)
    }

    /// A site whose home is a file system of its own, mounted with these options.
    fn home_on_tmpfs(options: &str) -> Result<Site> {
        let env = Env::new()?;
        let account = Account::new(&env, "bash")?;
        let home = account.home().display();
        let uid = account.uid();
        let setup = Setup::default().account(&account).prepared_by(&format!(
            "mount -t tmpfs -o {options},mode=0700,uid={uid} tmpfs '{home}'"
        ));
        Site::of(env, Some(account), &setup)
    }

    #[test]
    fn a_home_that_does_not_execute_programs_is_named_and_another_place_helps() -> Result<()> {
        let site = home_on_tmpfs("size=100m,noexec")?;
        let home = site.account()?.home().display().to_string();
        let output = site.bash("true")?;
        assert_sentence(&output, &[&home, "does not execute programs", "node_home"]);
        keep_elsewhere(&site)?;
        assert_all_works(&site, "node_home")
    }

    #[test]
    fn a_full_home_is_named() -> Result<()> {
        let site = home_on_tmpfs("size=300k")?;
        let home = site.account()?.home().display().to_string();
        let output = site.bash("true")?;
        assert_sentence(&output, &[&home, "no space for the agent", "free"]);
        let left = "find $HOME -type f | wc -l";
        let left = as_user(&site, left)?.success()?;
        assert_eq!(left.text().trim(), "0", "half an agent is left");
        Ok(())
    }

    #[test]
    fn a_home_without_a_single_file_left_is_named() -> Result<()> {
        // Too few for the folders; for the binary; for the agent's own files.
        for (inodes, hint) in [(3, "node_home"), (6, "node_home"), (8, "error")] {
            let site = home_on_tmpfs(&format!("size=100m,nr_inodes={inodes}"))?;
            let home = site.account()?.home().display().to_string();
            let output = site.bash("true")?;
            assert_sentence(&output, &[&home, "No space left on device", hint]);
        }
        Ok(())
    }

    #[test]
    fn a_home_that_cannot_be_written_is_named() -> Result<()> {
        let site = home_on_tmpfs("size=100m,ro")?;
        let home = site.account()?.home().display().to_string();
        assert_sentence(
            &site.bash("true")?,
            &[&home, "Read-only file system", "node_home"],
        );
        Ok(())
    }

    /// Runs a line as the node's user by the system's own ssh: inside the world of its sshd.
    fn as_user(site: &Site, line: &str) -> Result<Output> {
        let mut ssh = site.env().command("ssh");
        let known = site.sshd().file("known_hosts").display().to_string();
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o"])
            .arg(format!("UserKnownHostsFile={known}"))
            .args(["-p", &site.sshd().port().to_string(), "-i"])
            .arg(site.sshd().file("user_key"))
            .arg(format!("{}@127.0.0.1", site.sshd().user()))
            .arg(line);
        site.env().run(&mut ssh)
    }

    fn make_executable(path: &std::path::Path) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        Ok(fs::set_permissions(
            path,
            fs::Permissions::from_mode(0o755),
        )?)
    }
}
