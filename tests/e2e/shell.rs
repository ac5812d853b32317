//! `hpcagent sh`: the agent's own command line on the node, here with its input from a pipe.

use std::{io::Write, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use hpcclient_tests::{Child, Env};

fn type_into(env: &Env, lines: &str) -> Result<hpcclient_tests::Output> {
    let mut command = env.hpcagent(&["sh"])?;
    command.stdin(Stdio::piped());
    let mut shell = Child::start(&mut command, &env.logs(), "sh")?;
    let mut stdin = shell.take_stdin().context("no pipe")?;
    stdin.write_all(lines.as_bytes())?;
    drop(stdin);
    shell.finish(Duration::from_secs(30))
}

#[test]
fn it_runs_lines_remembers_them_and_tells_the_streams_apart() -> Result<()> {
    let env = Env::new()?;
    let output = type_into(&env, "cd /tmp\npwd\necho to stderr >&2\n:runs\n")?.success()?;
    let (out, err) = (output.text(), output.error_text());
    assert!(out.lines().any(|line| line == "/tmp"), "{out}");
    assert!(err.contains("to stderr"), "{err}");
    assert!(!out.lines().any(|line| line == "to stderr"), "{out}");
    assert!(
        out.contains("echo to stderr"),
        "`:runs` does not list it: {out}"
    );
    Ok(())
}

#[test]
fn its_exit_code_is_the_last_lines() -> Result<()> {
    let env = Env::new()?;
    assert_eq!(type_into(&env, "true\nfalse\n")?.code, 1);
    Ok(())
}
