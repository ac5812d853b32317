//! Full disks: of the store while a command writes, and of the place where the agent is installed.

mod as_root {
    use std::{path::Path, process::Command, time::Duration};

    use anyhow::{Result, bail};
    use hpcclient_protocol::RunState;
    use hpcclient_tests::{Site, check_numbered_lines, wait_for};

    /// A small file system; unmounted at the end.
    struct Tmpfs<'a>(&'a Path);

    impl<'a> Tmpfs<'a> {
        fn mount(at: &'a Path, size: &str) -> Result<Self> {
            std::fs::create_dir_all(at)?;
            mount(
                &[
                    "-t",
                    "tmpfs",
                    "-o",
                    &format!("size={size},mode=0700"),
                    "tmpfs",
                ],
                at,
            )?;
            Ok(Self(at))
        }

        fn grow(&self, size: &str) -> Result<()> {
            mount(&["-o", &format!("remount,size={size}")], self.0)
        }
    }

    impl Drop for Tmpfs<'_> {
        fn drop(&mut self) {
            // Lazily: the node's processes still have files open here and end with the site.
            drop(Command::new("umount").arg("-l").arg(self.0).status());
        }
    }

    fn mount(options: &[&str], at: &Path) -> Result<()> {
        let output = Command::new("mount").args(options).arg(at).output()?;
        if !output.status.success() {
            bail!("mount: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    #[test]
    fn a_full_store_stalls_the_command_and_loses_nothing() -> Result<()> {
        const LINES: u32 = 13_000_000;
        let site = Site::new()?;
        let state = site.env().path("node/state");
        let disk = Tmpfs::mount(&state, "80m")?;
        site.connect()?;
        let last = LINES.to_string();
        let run = site.start("full", &["run", "--", "seq", "1", &last])?;
        let id = wait_for("the run to stall", Duration::from_secs(60), || {
            let run = site.newest_run()?;
            if run.state != RunState::Stalled {
                bail!("it is {:?} with {} bytes", run.state, run.sizes.stdout);
            }
            let reason = run.reason.unwrap_or_default();
            if !reason.to_lowercase().contains("no space left") {
                bail!("the reason is {reason:?}");
            }
            Ok(Some(run.id))
        })?;
        let refused = site.bash("true")?;
        assert_eq!(refused.code, 1, "a new run on a full disk");
        let text = refused.error_text();
        assert!(
            text.starts_with("error: ") && text.contains("too few for a new run"),
            "{text}"
        );

        disk.grow("400m")?;
        let output = run.finish(Duration::from_secs(120))?.success()?;
        check_numbered_lines(&output.stdout, LINES)?;
        let run = site.newest_run()?;
        assert_eq!((run.id, run.state), (id, RunState::Exited));
        assert_eq!(run.exit_code, Some(0));
        Ok(())
    }

    #[test]
    fn no_room_for_the_agent_is_said_and_leaves_no_half_of_it() -> Result<()> {
        let site = Site::new()?;
        let home = site.env().path("node");
        let disk = Tmpfs::mount(&home, "256k")?;
        let output = site.bash("true")?;
        let text = output.error_text();
        assert_eq!(output.code, 1, "{text}");
        assert!(
            text.starts_with("error: ") && text.to_lowercase().contains("space"),
            "{text}"
        );
        for folder in std::fs::read_dir(home.join("bin")).into_iter().flatten() {
            let left: Vec<_> = std::fs::read_dir(folder?.path())?.collect();
            assert!(left.is_empty(), "left behind: {left:?}");
        }
        disk.grow("100m")?;
        assert_eq!(site.bash("echo room")?.success()?.text(), "room\n");
        Ok(())
    }
}
