//! The dashboard in real Chromium: what is done with runs and consoles, and a terminal under hostile output and a flood.

use anyhow::Result;
use hpcclient_tests::{Output, Site, run_spec};

/// Returns the address of the cluster's page, as `hpcclient open` prints it.
fn page(site: &Site) -> Result<String> {
    address(site.hpcclient(OPEN)?)
}

fn address(opened: Output) -> Result<String> {
    let text = opened.success()?.text();
    let mut words = text.split_whitespace();
    let url = words.find(|word| word.starts_with("http://"));
    Ok(url.unwrap_or_default().to_owned())
}

const OPEN: &[&str] = &["open", "--print"];

#[test]
fn hostile_output_is_not_answered_and_typing_gets_through_a_flood() -> Result<()> {
    let site = Site::new()?;
    site.bash("true")?.success()?;
    run_spec(site.env(), "terminal.spec.mjs", &[("PAGE", &page(&site)?)])
}

#[test]
fn runs_and_consoles_are_worked_with_by_keyboard_and_mouse() -> Result<()> {
    let site = Site::new()?;
    site.bash("echo one line; echo another >&2")?.success()?;
    site.bash("for i in $(seq 3000); do echo \"step $i residual\"; done; exit 3")?;
    run_spec(site.env(), "work.spec.mjs", &[("PAGE", &page(&site)?)])
}

mod as_root {
    use hpcclient_tests::People;

    use super::*;

    /// Each has a bridge, an agent and a page of their own.
    #[test]
    fn a_console_is_shared_seen_driven_and_taken_back_by_three_users() -> Result<()> {
        let people = People::new()?;
        let (alice, bob, carol) = (
            people.machine("alice")?,
            people.machine("bob")?,
            people.machine("carol")?,
        );
        let pages = [
            ("ALICE", address(alice.hpcclient(OPEN)?)?),
            ("BOB", address(bob.hpcclient(OPEN)?)?),
            ("CAROL", address(carol.hpcclient(OPEN)?)?),
            ("OWNER", people.alice()?.to_owned()),
            ("GUEST", people.bob().to_owned()),
        ];
        let variables: Vec<_> = pages
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        run_spec(people.site().env(), "share.spec.mjs", &variables)?;
        let done = alice.hpcclient(&["shares", "--audit"])?.success()?.text();
        for action in ["opened", "saw the screen of", "typed ", "left"] {
            let found = done
                .lines()
                .any(|line| line.contains(people.bob()) && line.contains(action));
            assert!(found, "{action} is not in {done}");
        }
        assert!(!done.contains(people.carol()), "{done}");
        Ok(())
    }
}
