//! Another build of the agent takes the place of the one that serves, and back: ten consoles, their viewers attached.
//!
//! The bridge dies as well, as it does when the package is upgraded. `cargo xtask bench` has the time it takes.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hpcclient_protocol::RunId;
use hpcclient_tests::{Address, CLUSTER, Child, Request, Site, wait_for};
use serde_json::json;

const CONSOLES: usize = 10;

/// What every process of the user has for an agent; the test puts another build there.
const AGENT: &str = "hpcagent";

/// Counts, and says again what is typed; no process is started for either once it runs.
const ECHOING: &str = "stty -echo -onlcr; exec 9<> <(:); \
                       (n=0; while :; do echo $((++n)); read -rt 0.05 -u 9; done) & \
                       while read -r typed; do [ \"$typed\" = end ] && break; echo \"echo $typed\"; done; \
                       kill $!; wait $!; exit 7";

struct Console {
    id: RunId,
    viewer: Child,
    typed: u64,
}

struct Upgrading {
    site: Site,
    consoles: Vec<Console>,
}

impl Upgrading {
    fn start() -> Result<Self> {
        let site = Site::new()?;
        site.env().copy_agent(AGENT, "")?;
        let mut this = Self {
            site,
            consoles: vec![],
        };
        this.connect()?;
        for number in 0..CONSOLES {
            let id = RunId::random();
            let spec = json!({
                "command": {"argv": ["bash", "-c", ECHOING]}, "pty": {"cols": 80, "rows": 24},
            });
            let path = format!("/c/{CLUSTER}/v1/runs/{id}");
            let made = this.site.ask("PUT", &path, Some(&spec))?;
            ensure!(
                made.status == 201,
                "{}",
                String::from_utf8_lossy(&made.body)
            );
            let mut attach = this.hpcclient(&["attach", &id.to_string()])?;
            let name = format!("viewer-{number}");
            let viewer = Child::start(&mut attach, &this.site.env().logs(), &name)?;
            this.consoles.push(Console {
                id,
                viewer,
                typed: 0,
            });
        }
        Ok(this)
    }

    fn hpcclient(&self, args: &[&str]) -> Result<Command> {
        let mut command = self.site.env().hpcclient(args)?;
        command.env("HPCCLIENT_AGENT", self.site.env().path(AGENT));
        Ok(command)
    }

    fn connect(&self) -> Result<()> {
        let mut connect = self.hpcclient(&["connect", CLUSTER])?;
        self.site.env().run(&mut connect)?.success()?;
        Ok(())
    }

    /// Types into each console and waits for what it says to that.
    fn type_into_all(&mut self) -> Result<()> {
        for console in &mut self.consoles {
            console.typed += 1;
            let (port, token, _) = self.site.bridge()?;
            let (id, seq) = (console.id, console.typed);
            let path = format!("/c/{CLUSTER}/v1/runs/{id}/stdin?writer=test&seq={seq}");
            let taken = Request::new("POST", &path)
                .header("authorization", &format!("Bearer {token}"))
                .header("origin", &format!("http://127.0.0.1:{port}"))
                .bytes(format!("{seq}\n").as_bytes())
                .send(&Address::Port(port))?;
            ensure!(
                taken.status == 200,
                "{}",
                String::from_utf8_lossy(&taken.body)
            );
        }
        for console in &self.consoles {
            let wanted = format!("echo {}\n", console.typed);
            wait_for("the echo", Duration::from_secs(20), || {
                let shown = String::from_utf8_lossy(&console.viewer.stdout()).into_owned();
                Ok(shown.contains(&wanted).then_some(()))
            })?;
        }
        Ok(())
    }

    /// Puts another agent there, as an upgrade of the package does, and returns the longest time that a viewer saw
    /// nothing.
    fn change_to(&self, mark: &str) -> Result<Duration> {
        let before = self.site.agent_status()?.hello;
        self.site.env().copy_agent(AGENT, mark)?;
        let viewers = self.consoles.iter().map(|console| &console.viewer);
        let mut seen: Vec<(usize, Instant, Duration)> = viewers
            .clone()
            .map(|viewer| (viewer.stdout().len(), Instant::now(), Duration::ZERO))
            .collect();
        self.site.kill_bridge()?;
        let changed = std::thread::scope(|scope| -> Result<()> {
            let connect = scope.spawn(|| self.connect());
            let start = Instant::now();
            wait_for("every viewer to go on", Duration::from_secs(60), || {
                for (viewer, (len, since, longest)) in viewers.clone().zip(&mut seen) {
                    let now = viewer.stdout().len();
                    if now > *len {
                        (*longest, *since, *len) =
                            ((*longest).max(since.elapsed()), Instant::now(), now);
                    }
                }
                let all = seen.iter().all(|(_, since, longest)| {
                    *longest > Duration::ZERO && since.elapsed() < Duration::from_millis(200)
                });
                let done = connect.is_finished() && start.elapsed() > Duration::from_secs(1);
                Ok((all && done).then_some(()))
            })?;
            connect.join().ok().context("the thread panicked")?
        });
        changed?;
        let after = self.site.agent_status()?.hello;
        ensure!(
            after.build != before.build && after.pid != before.pid,
            "{after:?}"
        );
        let longest = seen.iter().map(|(_, _, longest)| *longest).max();
        longest.context("no viewer")
    }

    /// Ends the consoles: each viewer saw every number and every echo once, in order.
    fn finish(self) -> Result<()> {
        for console in &self.consoles {
            let (port, token, _) = self.site.bridge()?;
            let (id, seq) = (console.id, console.typed + 1);
            let path = format!("/c/{CLUSTER}/v1/runs/{id}/stdin?writer=test&seq={seq}");
            Request::new("POST", &path)
                .header("authorization", &format!("Bearer {token}"))
                .header("origin", &format!("http://127.0.0.1:{port}"))
                .bytes(b"end\n")
                .send(&Address::Port(port))?;
        }
        for console in self.consoles {
            let output = console.viewer.finish(Duration::from_secs(30))?;
            ensure!(output.code == 7, "{}: {}", output.code, output.error_text());
            let (mut numbers, mut echoes) = (0, 0);
            for line in output.text().lines() {
                match line.strip_prefix("echo ") {
                    Some(echo) => {
                        echoes += 1;
                        ensure!(echo == echoes.to_string(), "{line:?} for echo {echoes}");
                    }
                    None => {
                        numbers += 1;
                        ensure!(line == numbers.to_string(), "{line:?} for {numbers}");
                    }
                }
            }
            ensure!(
                echoes == console.typed,
                "{echoes} of {} echoes",
                console.typed
            );
            ensure!(numbers > 20, "it counted to {numbers}");
        }
        Ok(())
    }
}

#[test]
fn ten_consoles_and_their_viewers_do_not_notice_an_upgrade_and_the_way_back() -> Result<()> {
    let mut site = Upgrading::start()?;
    site.type_into_all()?;
    for mark in ["another build", ""] {
        let blackout = site.change_to(mark)?;
        tell(&format!(
            "to the build {mark:?}: {} ms without output",
            blackout.as_millis()
        ));
        site.type_into_all()?;
    }
    site.finish()
}

#[expect(clippy::print_stderr, reason = "the runner shows it on request")]
fn tell(text: &str) {
    eprintln!("{text}");
}
