//! Three login nodes with one home: the work stays where it began, and is found from wherever a login lands.

mod as_root {
    use std::{
        fs,
        time::{Duration, Instant},
    };

    use anyhow::{Context, Result};
    use hpcclient_tests::{Child, Nodes, Output, Python, check_numbered_lines, wait_for};

    /// A command that says where it is, writes a numbered line now and then, and ends when it is told to.
    const TICKING: &str =
        "hostname >&2; n=0; until [ -e ~/go ]; do n=$((n + 1)); echo $n; sleep 0.1; done";

    /// The latest that the work goes on after a cut.
    const RESUMED: Duration = Duration::from_secs(10);

    fn start_ticking(nodes: &Nodes) -> Result<(Child, String)> {
        let run = nodes
            .site()
            .start("ticking", &["run", "--", "bash", "-c", TICKING])?;
        wait_for("the command", Duration::from_secs(30), || {
            Ok((run.stdout().len() > 4).then_some(()))
        })?;
        let id = nodes.site().newest_run()?.id.to_string();
        Ok((run, id))
    }

    fn assert_ticked_on(output: &Output, node: &str) -> Result<()> {
        // What follows are the command line's own remarks on the connection.
        assert_eq!(output.error_text().lines().next(), Some(node));
        let lines = u32::try_from(output.text().lines().count())?;
        assert!(lines > 1, "{lines} lines");
        check_numbered_lines(&output.stdout, lines)
    }

    /// Python that runs what a file says, in one session.
    fn session(nodes: &Nodes) -> Result<Python> {
        let step = "exec(open('step.py').read())";
        Python::start(nodes.site(), "from hpcclient import *", step)
    }

    fn step(nodes: &Nodes, python: &mut Python, code: &str) -> Result<()> {
        fs::write(nodes.site().env().path("home/step.py"), code)?;
        python.step()
    }

    #[test]
    fn a_balancer_that_leads_elsewhere_does_not_take_the_session_away() -> Result<()> {
        let nodes = Nodes::new()?;
        nodes.balancer().lead_to(1);
        let mut python = session(&nodes)?;
        step(
            &nodes,
            &mut python,
            "hpcrpc.execute('x=5; cd /tmp; f() { echo from f; }')",
        )?;
        assert_eq!(nodes.place()?, (Some("login02".to_owned()), None));
        let (run, _) = start_ticking(&nodes)?;

        nodes.balancer().lead_to(0);
        let (start, before) = (Instant::now(), run.stdout().len());
        nodes.balancer().reset_connections();
        wait_for("more output", Duration::from_secs(60), || {
            Ok((run.stdout().len() > before + 10).then_some(()))
        })?;
        let resumed = start.elapsed();
        assert!(resumed <= RESUMED, "resumed after {resumed:?}");
        let check = "r = hpcrpc.execute('echo $x; pwd; f; hostname')\n\
                     assert r.stdout == '5\\n/tmp\\nfrom f\\nlogin02\\n', r";
        step(&nodes, &mut python, check)?;
        let place = (Some("login02".to_owned()), Some("login01".to_owned()));
        assert_eq!(nodes.place()?, place);
        nodes.site().account()?.write("go", "")?;
        assert_ticked_on(&run.finish(Duration::from_secs(60))?.success()?, "login02")
    }

    #[test]
    fn a_run_of_one_node_is_attached_from_another() -> Result<()> {
        let nodes = Nodes::new()?;
        nodes.balancer().lead_to(1);
        let (run, id) = start_ticking(&nodes)?;
        nodes.balancer().lead_to(2);
        let listed = nodes.elsewhere(&["runs"])?.success()?;
        assert!(listed.text().contains("hostname"), "{}", listed.text());
        let mut command = nodes.site().env().hpcclient(&["attach", &id])?;
        command.env(
            "HPCCLIENT_STATE_DIR",
            nodes.site().env().path("home/elsewhere"),
        );
        let logs = nodes.site().env().logs();
        let attached = Child::start(
            command.stdin(std::process::Stdio::null()),
            &logs,
            "attached",
        )?;
        wait_for("the live output", Duration::from_secs(30), || {
            Ok((attached.stdout().len() > run.stdout().len()).then_some(()))
        })?;
        nodes.site().account()?.write("go", "")?;
        for seen in [run, attached] {
            assert_ticked_on(&seen.finish(Duration::from_secs(60))?.success()?, "login02")?;
        }
        Ok(())
    }

    #[test]
    fn what_a_node_has_stored_is_read_while_it_is_away() -> Result<()> {
        let mut nodes = Nodes::new()?;
        nodes.balancer().lead_to(1);
        nodes.site().connect()?;
        let ended = nodes.site().bash("seq 1 1000; exit 3")?;
        assert_eq!(ended.code, 3, "{}", ended.error_text());
        let ended = nodes.site().newest_run()?.id.to_string();
        let (run, live) = start_ticking(&nodes)?;
        drop(run);
        nodes.take_down(1)?;
        nodes.balancer().lead_to(2);

        let output = nodes.elsewhere(&["attach", &ended])?;
        assert_eq!(output.code, 3, "{}", output.error_text());
        check_numbered_lines(&output.stdout, 1000)?;
        let listed = nodes.elsewhere(&["runs"])?.success()?;
        let line = listed.text();
        let line = line
            .lines()
            .find(|line| line.contains(live.get(..8).unwrap_or_default()));
        line.with_context(|| format!("{live} is not in {}", listed.text()))?;
        // One that goes on there cannot be followed from here, and the reason is said.
        let output = nodes.elsewhere(&["attach", &live])?;
        assert_ne!(output.code, 0);
        let text = output.error_text();
        assert!(
            text.contains("the run is on login02, which cannot be reached"),
            "{text}"
        );
        Ok(())
    }
}
