//! The dashboard in real Chromium: what is done with runs and consoles, and a terminal under hostile output and a flood.

use anyhow::Result;
use hpcclient_tests::{Site, run_spec};

/// Returns the address of the cluster's page, as `hpcclient open` prints it.
fn page(site: &Site) -> Result<String> {
    let output = site.hpcclient(&["open", "--print"])?.success()?;
    let text = output.text();
    let mut words = text.split_whitespace();
    let url = words.find(|word| word.starts_with("http://"));
    Ok(url.unwrap_or_default().to_owned())
}

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
