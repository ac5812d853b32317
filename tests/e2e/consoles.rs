//! `hpcclient console` and `run -t`, in a terminal that `script` makes, as a person has them.

use anyhow::Result;
use hpcclient_protocol::RunState;
use hpcclient_tests::{Site, Terminal};

/// Keys that leave a console.
const LEAVE: &[u8] = b"\x1cd";

#[test]
fn a_console_is_typed_into_left_found_again_and_ended() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let mut first = Terminal::start(site.env(), "first", "console")?;
    first.types(b"echo $((6 * 7))-$(stty size)\r")?;
    first.shows("42-30 100")?;
    first.types(LEAVE)?;
    first.shows("it goes on")?;
    let output = first.finish()?;
    assert_eq!(output.code, 0, "{}", output.text());
    let run = site.newest_run()?;
    assert_eq!(run.state, RunState::Running);
    let id = run.id.to_string();

    let mut second = Terminal::start(site.env(), "second", &format!("console {id}"))?;
    second.types(b"kept=$((70 + 7)); echo kept-$kept\r")?;
    second.shows("kept-77")?;
    second.types(b"exit 5\r")?;
    second.shows("the console has ended")?;
    assert_eq!(second.finish()?.code, 5);
    Ok(())
}

#[test]
fn a_viewer_types_nothing_and_both_see_the_same() -> Result<()> {
    let site = Site::new()?;
    site.connect()?;
    let mut driver = Terminal::start(site.env(), "driver", "run -t -- cat")?;
    driver.types(b"one\r")?;
    driver.shows("one\r\none\r\n")?;
    let id = site.newest_run()?.id.to_string();
    let mut viewer = Terminal::start(site.env(), "viewer", &format!("console --view {id}"))?;
    viewer.shows("one")?;
    driver.types(b"two\r")?;
    viewer.shows("two\r\ntwo\r\n")?;
    viewer.types(b"never\r")?;
    viewer.types(LEAVE)?;
    assert_eq!(viewer.finish()?.code, 0);
    driver.types(b"three\r\x04")?;
    let output = driver.finish()?;
    assert_eq!(output.code, 0);
    assert!(!output.text().contains("never"), "{}", output.text());
    Ok(())
}

#[test]
fn without_a_terminal_there_is_no_console_and_that_is_said() -> Result<()> {
    let site = Site::new()?;
    let output = site.hpcclient(&["console"])?;
    let text = output.error_text();
    assert!(
        output.code != 0 && text.contains("needs a terminal"),
        "{text}"
    );
    Ok(())
}

#[test]
fn a_password_that_is_not_typed_leaves_the_terminal_as_it_was() -> Result<()> {
    let site = Site::with_sshd(&["PubkeyAuthentication no", "PasswordAuthentication yes"])?;
    let mut terminal = Terminal::start(site.env(), "password", "connect; stty -a; echo over")?;
    terminal.shows("assword")?;
    terminal.types(b"\x03")?;
    terminal.shows("over")?;
    let text = terminal.text();
    let is_on = |mode| text.split_whitespace().any(|word| word == mode);
    assert!(is_on("echo") && is_on("isig"), "{text}");
    Ok(())
}
