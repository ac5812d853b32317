//! Many login nodes with one home: what is left of a run when its node cannot be reached.

mod as_root {
    use std::time::Duration;

    use anyhow::{Context, Result};
    use hpcclient_protocol::status::AgentHello;
    use hpcclient_tests::{Address, Request, Site, wait_for};
    use serde_json::json;

    /// Starts an agent as if on a node of another name, which has no sshd.
    fn agent_on(site: &Site, name: &str) -> Result<AgentHello> {
        let agent = site.env().hpcagent(&["serve", "--detach"])?;
        let mut command = site.env().command("unshare");
        let line = "hostname \"$0\" && exec \"$@\"";
        command.args(["-u", "sh", "-c", line, name]);
        command.arg(agent.get_program()).args(agent.get_args());
        command.env("HPCCLIENT_HOME", site.env().path("node"));
        let output = site.env().run(&mut command)?.success()?.text();
        let hello = output
            .strip_prefix("hpcclient-hello ")
            .context("no hello")?;
        Ok(serde_json::from_str(hello)?)
    }

    #[test]
    fn the_output_of_a_run_on_an_unreachable_node_is_shown() -> Result<()> {
        let site = Site::new()?;
        let far = agent_on(&site, "far-node")?;
        let id = hpcclient_protocol::RunId::random().to_string();
        let ask = |method: &str, path: &str| {
            Request::new(method, path).send(&Address::Socket(far.socket.clone().into()))
        };
        let spec = json!({"command": {"shell": "echo stored; sleep 1000"}});
        let made = Request::new("PUT", &format!("/v1/runs/{id}"))
            .json(&spec)
            .send(&Address::Socket(far.socket.clone().into()))?;
        assert_eq!(made.status, 201);
        wait_for("the output", Duration::from_secs(30), || {
            let stored = ask("GET", &format!("/v1/runs/{id}/stdout"))?;
            Ok((stored.body == b"stored\n").then_some(()))
        })?;

        let listed = site.hpcclient(&["runs"])?.success()?.text();
        assert!(
            listed.contains("running") && listed.contains("(on far-node)"),
            "{listed}"
        );
        let output = site.hpcclient(&["attach", &id])?;
        assert_eq!((output.code, output.text().as_str()), (1, "stored\n"));
        let said = output.error_text();
        assert!(said.contains("the run is on far-node"), "{said}");
        let output = site.hpcclient(&["attach", "--no-follow", &id])?.success()?;
        assert_eq!(output.text(), "stored\n");
        Ok(())
    }
}
