//! One-time passwords: asked for in the server's words, by whoever waits, and never sent twice.

mod as_root {
    use std::time::Duration;

    use anyhow::Result;
    use hpcclient_protocol::bridge::ClusterState;
    use hpcclient_tests::{Child, OtpSite, wait_for};

    const KEY_THEN_CODE: &str = "publickey,keyboard-interactive";

    #[test]
    fn a_code_logs_in_and_everything_after_shares_the_login() -> Result<()> {
        for (methods, proofs) in [("keyboard-interactive", 1), (KEY_THEN_CODE, 1)] {
            let otp = OtpSite::new(methods)?;
            let output = otp.connect_with(&[&otp.code()?])?.success()?;
            let asked = output.error_text();
            assert!(asked.contains("One-time password (OATH) for"), "{asked}");
            for number in 0..3 {
                let output = otp.site().bash(&format!("echo {number}"))?.success()?;
                assert_eq!(output.text(), format!("{number}\n"));
            }
            assert_eq!(otp.codes_seen(), (proofs, 0), "{methods}");
            assert_eq!(otp.site().sshd().logins(), 1, "{methods}");
        }
        Ok(())
    }

    #[test]
    fn a_wrong_code_is_asked_again_and_the_right_one_logs_in() -> Result<()> {
        for methods in ["keyboard-interactive", KEY_THEN_CODE] {
            let otp = OtpSite::new(methods)?;
            let output = otp.connect_with(&["000000", &otp.code()?])?.success()?;
            let asked = output.error_text();
            assert_eq!(asked.matches("One-time password").count(), 2, "{asked}");
            assert_eq!(otp.codes_seen(), (1, 1), "{methods}");
            assert!(!output.text().contains("000000") && !asked.contains("000000"));
        }
        Ok(())
    }

    #[test]
    fn wrong_codes_only_end_in_one_clear_sentence_and_nothing_goes_on_trying() -> Result<()> {
        let otp = OtpSite::new(KEY_THEN_CODE)?;
        let output = otp.connect_with(&["000000"; 9])?;
        let text = output.error_text();
        assert_eq!(output.code, 255, "{text}");
        assert!(
            text.contains("error: ") && text.contains("refused the login"),
            "{text}"
        );
        let (taken, refused) = otp.codes_seen();
        assert_eq!(taken, 0);
        assert!((1..=3).contains(&refused), "{refused} codes were sent");
        assert_eq!(state(&otp)?, ClusterState::Failed);
        assert_eq!(otp.codes_seen(), (0, refused));
        Ok(())
    }

    #[test]
    fn without_a_person_it_says_what_to_do_and_sends_nothing() -> Result<()> {
        let otp = OtpSite::new(KEY_THEN_CODE)?;
        let output = otp.site().bash("true")?;
        let text = output.error_text();
        assert_eq!(output.code, 255, "{text}");
        assert!(
            text.contains("hint:") && text.contains("hpcclient connect"),
            "{text}"
        );
        assert_eq!(otp.codes_seen(), (0, 0));
        Ok(())
    }

    #[test]
    fn a_cut_asks_again_only_when_somebody_waits_and_no_code_is_sent_twice() -> Result<()> {
        let otp = OtpSite::new(KEY_THEN_CODE)?;
        otp.connect_with(&[&otp.code()?])?.success()?;
        let line = "echo up; until [ -e ~/go ]; do sleep 0.05; done; echo end";
        let run = otp
            .site()
            .start("cut", &["run", "--", "bash", "-c", line])?;
        wait_for("the command", Duration::from_secs(30), || {
            Ok((run.stdout() == b"up\n").then_some(()))
        })?;
        let id = otp.site().newest_run()?.id.to_string();
        drop(run);

        otp.site().sshd().kill_connections()?;
        wait_for(
            "the bridge to need a person",
            Duration::from_secs(30),
            || Ok((state(&otp)? == ClusterState::Failed).then_some(())),
        )?;
        assert_eq!(
            otp.codes_seen(),
            (1, 0),
            "a code was sent without anybody there"
        );

        otp.connect_with(&[&otp.code()?])?.success()?;
        otp.site().account()?.write("go", "")?;
        let output = otp.site().hpcclient(&["attach", &id])?.success()?;
        assert_eq!(output.text(), "up\nend\n");
        assert_eq!(otp.codes_seen(), (2, 0));
        Ok(())
    }

    /// Whoever came first is asked; the others wait for the same login.
    #[test]
    fn many_at_once_share_one_question() -> Result<()> {
        const MANY: usize = 5;
        let otp = OtpSite::new(KEY_THEN_CODE)?;
        let env = otp.site().env();
        let mut waiting = vec![];
        for number in 0..MANY {
            let mut command = env.hpcclient(&["connect", hpcclient_tests::CLUSTER])?;
            command.stdin(std::process::Stdio::piped());
            let name = format!("waiting-{number}");
            waiting.push(Child::start(&mut command, &env.logs(), &name)?);
        }
        let asked = |child: &Child| String::from_utf8_lossy(&child.stderr()).contains("OATH");
        let first = wait_for("the question", Duration::from_secs(30), || {
            Ok(waiting.iter().position(asked))
        })?;
        let mut stdin = waiting[first].take_stdin();
        if let Some(stdin) = &mut stdin {
            use std::io::Write;
            writeln!(stdin, "{}", otp.code()?)?;
        }
        let mut questions = 0;
        for child in waiting {
            let output = child.finish(Duration::from_secs(30))?.success()?;
            questions += output.error_text().matches("OATH").count();
        }
        assert_eq!((questions, otp.codes_seen()), (1, (1, 0)));
        assert_eq!(otp.site().sshd().logins(), 1);
        Ok(())
    }

    fn state(otp: &OtpSite) -> Result<ClusterState> {
        Ok(otp.site().cluster()?.state)
    }
}
