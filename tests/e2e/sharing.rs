//! Several users of one login node: who sees what another shares, for how long, and what the owner sees of it.

mod as_root {
    use std::time::Duration;

    use anyhow::{Context, Result};
    use hpcclient_tests::{Address, People, Request, python, repository, wait_for};
    use serde_json::{Value, json};

    const PATIENCE: Duration = Duration::from_secs(60);

    /// How long a guest may go on seeing what was taken back.
    const REVOKED: Duration = Duration::from_secs(2);

    /// Starts alice's run, which reads lines and says them back.
    fn start(people: &People, id: &str) -> Result<()> {
        let line = "echo begun; while read -r word; do echo heard $word; done";
        let spec = json!({"command": {"shell": line}, "stdin": "open", "env": {"TOKEN": "s3cret"}});
        let (status, body) = people.ask("alice", "PUT", &format!("runs/{id}"), Some(&spec))?;
        anyhow::ensure!(status == 201, "{status} {body}");
        wait_for("the run's first line", PATIENCE, || {
            let (_, text) = people.ask("alice", "GET", &format!("runs/{id}/stdout"), None)?;
            Ok(text.contains("begun").then_some(()))
        })
    }

    const RUN: &str = "0199f3a2-7c1e-7b04-9a6e-2f1d4c5b6a70";

    #[test]
    fn a_guest_sees_a_run_until_it_is_taken_back_and_others_never() -> Result<()> {
        let people = People::new()?;
        let (alice, bob) = (people.alice()?, people.bob());
        start(&people, RUN)?;
        let shared = people
            .hpcclient(&["share", "-c", "alice", RUN, bob])?
            .success()?;
        assert!(
            shared
                .error_text()
                .contains(&format!("hpcclient attach {alice}:{RUN}"))
        );
        let share = shared.text().trim().to_owned();

        let listed = people
            .hpcclient(&["shares", "-c", "bob"])?
            .success()?
            .text();
        assert!(
            listed.contains(&share)
                && listed.contains(&format!("by {alice}"))
                && listed.contains("view"),
            "{listed}"
        );
        assert_eq!(
            people
                .hpcclient(&["shares", "-c", "carol"])?
                .success()?
                .text(),
            ""
        );
        let mine = people
            .hpcclient(&["shares", "-c", "alice"])?
            .success()?
            .text();
        assert!(mine.contains(&format!("with {bob}")), "{mine}");

        let of_alice = format!("{alice}:{RUN}");
        let attached = people
            .site()
            .start("bob", &["attach", "-c", "bob", &of_alice])?;
        wait_for("alice's output at bob's", PATIENCE, || {
            Ok(String::from_utf8_lossy(&attached.stdout())
                .contains("begun")
                .then_some(()))
        })?;
        // Carol is told whose it is not hers to see, and bob cannot do more than look.
        let refused = people.hpcclient(&["attach", "-c", "carol", &of_alice])?;
        assert!(
            refused.code != 0 && refused.error_text().contains(alice),
            "{}",
            refused.error_text()
        );
        let run = format!("shared/{alice}/runs/{RUN}");
        let (status, text) = people.ask("bob", "GET", &run, None)?;
        assert!(status == 200 && !text.contains("s3cret"), "{status} {text}");
        let write = format!("{run}/stdin?writer=w&seq=1");
        let int = json!({"signal": "INT"});
        for (who, method, path, body) in [
            ("bob", "POST", write.as_str(), &json!("typed\n")),
            ("bob", "POST", &format!("{run}/signal"), &int),
            (
                "bob",
                "POST",
                &format!("{run}/resize"),
                &json!({"cols": 5, "rows": 5}),
            ),
            ("carol", "GET", &run, &Value::Null),
            ("carol", "GET", &format!("{run}/stdout"), &Value::Null),
            ("carol", "POST", &write, &json!("typed\n")),
        ] {
            let (status, text) =
                people.ask(who, method, path, (!body.is_null()).then_some(body))?;
            assert!(
                status == 404 && text.contains(alice),
                "{who} {path}: {status} {text}"
            );
        }

        let stream = std::thread::scope(|scope| -> Result<()> {
            let (port, token, _) = people.site().bridge()?;
            let path = format!("/c/bob/v1/{run}/stream");
            let reading = scope.spawn(move || {
                Request::new("GET", &path)
                    .header("authorization", &format!("Bearer {token}"))
                    .header("origin", &format!("http://127.0.0.1:{port}"))
                    .send(&Address::Port(port))
            });
            wait_for("bob's stream in the record", PATIENCE, || {
                let done = people
                    .hpcclient(&["shares", "-c", "alice", "--audit"])?
                    .success()?
                    .text();
                Ok((done.matches(" opened ").count() == 2).then_some(()))
            })?;
            people
                .hpcclient(&["unshare", "-c", "alice", RUN])?
                .success()?;
            wait_for("the end of bob's stream", REVOKED, || {
                Ok(reading.is_finished().then_some(()))
            })
        });
        stream?;
        let mut attached = attached;
        wait_for("the end of bob's attach", PATIENCE, || {
            Ok((!attached.is_running()?).then_some(()))
        })?;
        assert_eq!(
            people
                .hpcclient(&["shares", "-c", "bob"])?
                .success()?
                .text(),
            ""
        );
        let (status, _) = people.ask("bob", "GET", &run, None)?;
        assert_eq!(status, 404);

        let done = people
            .hpcclient(&["shares", "-c", "alice", "--audit"])?
            .success()?
            .text();
        for action in [
            "looked at",
            "refused: stdin of",
            "refused: signal of",
            "left",
        ] {
            let found = done
                .lines()
                .any(|line| line.contains(bob) && line.contains(action));
            assert!(found, "{action} is not in {done}");
        }
        assert!(
            !done.contains(people.carol()),
            "carol reached nothing: {done}"
        );
        Ok(())
    }

    #[test]
    fn a_guest_who_may_drive_types_and_interrupts_also_after_the_owners_agent_was_killed()
    -> Result<()> {
        let people = People::new()?;
        let (alice, bob) = (people.alice()?.to_owned(), people.bob());
        start(&people, RUN)?;
        people
            .hpcclient(&["share", "-c", "alice", RUN, bob, "--drive", "--for", "2h"])?
            .success()?;
        let listed = people
            .hpcclient(&["shares", "-c", "bob"])?
            .success()?
            .text();
        assert!(
            listed.contains("drive") && listed.contains(" left"),
            "{listed}"
        );
        let run = format!("shared/{alice}/runs/{RUN}");
        let (port, token, _) = people.site().bridge()?;
        let write = |seq: u32, text: &str| {
            let path = format!("/c/bob/v1/{run}/stdin?writer=w&seq={seq}");
            let request = Request::new("POST", &path).bytes(text.as_bytes());
            let request = request.header("authorization", &format!("Bearer {token}"));
            let request = request.header("origin", &format!("http://127.0.0.1:{port}"));
            request.send(&Address::Port(port))
        };
        let heard = |text: &str| {
            wait_for(text, PATIENCE, || {
                let (_, seen) = people.ask("bob", "GET", &format!("{run}/stdout"), None)?;
                Ok(seen.contains(&format!("heard {text}")).then_some(()))
            })
        };
        assert_eq!(write(1, "one\n")?.status, 200);
        // The same number again is the same piece.
        assert_eq!(write(1, "one\n")?.status, 200);
        heard("one")?;
        let status = people.ask("alice", "GET", "status", None)?.1;
        let status: Value = serde_json::from_str(&status)?;
        let pid = status
            .pointer("/hello/pid")
            .and_then(Value::as_i64)
            .context("no pid")?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        // Alice's next request starts her agent again.
        wait_for("alice's new agent", PATIENCE, || {
            Ok((people.ask("alice", "GET", "status", None)?.0 == 200).then_some(()))
        })?;
        assert_eq!(write(2, "two\n")?.status, 200);
        heard("two")?;
        let (_, seen) = people.ask("bob", "GET", &format!("{run}/stdout"), None)?;
        assert_eq!(seen, "begun\nheard one\nheard two\n");
        let (status, _) = people.ask(
            "bob",
            "POST",
            &format!("{run}/signal"),
            Some(&json!({"signal": "TERM"})),
        )?;
        assert_eq!(status, 404, "only INT");
        let (status, text) = people.ask(
            "bob",
            "POST",
            &format!("{run}/signal"),
            Some(&json!({"signal": "INT"})),
        )?;
        assert_eq!(status, 200, "{text}");
        wait_for("the run's end", PATIENCE, || {
            let (_, text) = people.ask("alice", "GET", &format!("runs/{RUN}"), None)?;
            Ok(text.contains("\"signal\":\"INT\"").then_some(()))
        })?;
        let done = people
            .hpcclient(&["shares", "-c", "alice", "--audit"])?
            .success()?
            .text();
        for action in [
            "typed 4 bytes into",
            "sent INT to",
            "refused: a signal other than INT",
        ] {
            assert!(done.contains(action), "{action} is not in {done}");
        }
        Ok(())
    }

    #[test]
    fn a_notebook_shares_a_run_and_a_file_and_another_sees_them() -> Result<()> {
        let people = People::new()?;
        let (alice, bob) = (people.alice()?, people.bob());
        let program = format!(
            "import sys; sys.path.insert(0, '{}')\n\
             import hpcclient\n\
             from hpcclient import Rpc\n\
             alice, bob = Rpc(), Rpc()\n\
             alice.cluster, bob.cluster = 'alice', 'bob'\n\
             alice.execute('echo hello; echo problem >&2; echo data > ~/result', quiet=True)\n\
             share = alice.runs[-1].share('{bob}', stream='stdout', hours=1)\n\
             found = bob.shares.with_me\n\
             assert [each.owner for each in found] == ['{alice}'], found\n\
             result = found[0].attach(quiet=True)\n\
             assert result.stdout == 'hello\\n' and result.returncode == 0, result.stdout\n\
             assert result.stderr == '', result.stderr\n\
             assert bob.runs['{alice}:' + share.run_id].stdout == 'hello\\n'\n\
             try:\n    found[0].write('x')\n\
             except hpcclient.NotFound as error:\n    assert '{alice}' in str(error)\n\
             else:\n    raise AssertionError('typed into a run that is only shown')\n\
             alice.shares.file('~/result', '{bob}')\n\
             file = [each for each in bob.shares.with_me if each.path]\n\
             assert file[0].read() == b'data\\n', file\n\
             alice.runs[-1].unshare()\n\
             assert [each.path for each in alice.shares.by_me] == [file[0].path]\n\
             alice.shares.by_me[0].revoke()\n\
             assert repr(bob.shares) == 'nothing is shared'\n\
             assert [e['action'] for e in alice.shares.audit if e['action'] == 'read'], alice.shares.audit\n\
             print('all is well')\n",
            repository().join("kernel-ext/python").display()
        );
        let output = python(people.site().env(), &program)?.success()?;
        assert_eq!(output.text(), "all is well\n");
        Ok(())
    }
}
