//! A console that its owner shares: another user's `hpcclient console OWNER:ID`, and who is told to look.

mod as_root {
    use std::time::Duration;

    use anyhow::{Context, Result};
    use hpcclient_tests::{Machine, People, Terminal, wait_for};
    use serde_json::Value;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Keys that leave a console.
    const LEAVE: &[u8] = b"\x1cd";

    /// A console of alice's that shows `mine`, and its id.
    fn console(people: &People, machine: &Machine) -> Result<(Terminal, String)> {
        let mut terminal = Terminal::start(machine.env(), "alice", "console")?;
        terminal.types(b"echo mi''ne\r")?;
        terminal.shows("mine")?;
        let runs: Value = serde_json::from_str(&people.ask("alice", "GET", "runs", None)?.1)?;
        let id = runs.pointer("/runs/0/id").and_then(Value::as_str);
        Ok((terminal, id.context("alice has no run")?.to_owned()))
    }

    /// Waits until those who look at alice's console are these, by name and access.
    fn viewers(people: &People, id: &str, wanted: &[(&str, &str)]) -> Result<()> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(user, how)| format!("{user} {how}"))
            .collect();
        wait_for(&format!("{wanted:?} to look"), PATIENCE, || {
            let (_, text) = people.ask("alice", "GET", &format!("runs/{id}/viewers"), None)?;
            let seen: Vec<Value> = serde_json::from_str(&text)?;
            let word = |viewer: &Value, key: &str| {
                let word = viewer.get(key).and_then(Value::as_str);
                word.unwrap_or_default().to_owned()
            };
            let seen: Vec<_> = seen
                .iter()
                .map(|viewer| format!("{} {}", word(viewer, "user"), word(viewer, "access")))
                .collect();
            Ok((seen == wanted).then_some(()))
        })
    }

    #[test]
    fn a_guest_drives_it_in_a_terminal_of_their_own_that_its_output_only_draws_on() -> Result<()> {
        let people = People::new()?;
        let (alice, bob) = (people.alice()?.to_owned(), people.bob().to_owned());
        let machine = people.machine("alice")?;
        let (mut hers, id) = console(&people, &machine)?;
        viewers(&people, &id, &[(&alice, "drive")])?;
        people
            .hpcclient(&["share", "-c", "alice", &id, &bob, "--drive"])?
            .success()?;

        let of_bob = people.machine("bob")?;
        let mut his = Terminal::start(of_bob.env(), "bob", &format!("console {alice}:{id}"))?;
        // What she had on the screen before he came.
        his.shows("mine")?;
        his.types(b"echo $((6 * 7))-of-bob\r")?;
        his.shows("42-of-bob")?;
        hers.shows("42-of-bob")?;
        viewers(&people, &id, &[(&alice, "drive"), (&bob, "drive")])?;

        // A question that his terminal would answer with keys, and one to write his clipboard.
        hers.types(b"printf '\\033[6n\\033]52;c;aGk=\\007dra''wn\\n'\r")?;
        hers.shows("\x1b]52;c;aGk=\x07drawn")?;
        his.shows("drawn\r")?;
        let shown = his.text();
        assert!(
            !shown.contains("\x1b[6n") && !shown.contains("\x1b]52;"),
            "{shown:?}"
        );

        his.types(LEAVE)?;
        let output = his.finish()?;
        assert_eq!(output.code, 0, "{}", output.text());
        viewers(&people, &id, &[(&alice, "drive")])?;
        let again = format!("hpcclient console -c default {alice}:{id}");
        assert!(output.text().contains(&again), "{}", output.text());

        // Taken back while he is there again: he is out, in words, and she goes on.
        let mut his = Terminal::start(of_bob.env(), "again", &format!("console {alice}:{id}"))?;
        his.types(b"echo he''re\r")?;
        his.shows("here")?;
        people
            .hpcclient(&["unshare", "-c", "alice", &id])?
            .success()?;
        let output = his.finish()?;
        assert!(
            output.code != 0 && output.text().contains("error: "),
            "{}",
            output.text()
        );
        hers.types(b"echo go''ing-on; exit 3\r")?;
        hers.shows("going-on")?;
        assert_eq!(hers.finish()?.code, 3);
        Ok(())
    }

    #[test]
    fn who_may_only_look_on_is_told_so_and_a_third_sees_nothing() -> Result<()> {
        let people = People::new()?;
        let (alice, bob) = (people.alice()?.to_owned(), people.bob().to_owned());
        let machine = people.machine("alice")?;
        let (mut hers, id) = console(&people, &machine)?;
        people
            .hpcclient(&["share", "-c", "alice", &id, &bob])?
            .success()?;
        let (of_bob, of_carol) = (people.machine("bob")?, people.machine("carol")?);
        let mut his = Terminal::start(of_bob.env(), "bob", &format!("console {alice}:{id}"))?;
        his.shows("lets you look on only")?;
        his.types(b"echo nev''er\r")?;
        viewers(&people, &id, &[(&alice, "drive"), (&bob, "view")])?;
        hers.types(b"echo on''ly-mine\r")?;
        his.shows("only-mine")?;
        his.types(LEAVE)?;
        assert_eq!(his.finish()?.code, 0);
        assert!(!hers.text().contains("never"), "{}", hers.text());

        let third = Terminal::start(of_carol.env(), "carol", &format!("console {alice}:{id}"))?;
        let output = third.finish()?;
        assert!(
            output.code != 0 && output.text().contains(&alice),
            "{}",
            output.text()
        );
        assert!(!output.text().contains("mine"), "{}", output.text());
        hers.types(b"exit\r")?;
        assert_eq!(hers.finish()?.code, 0);
        Ok(())
    }
}
