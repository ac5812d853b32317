//! The login page in real Chromium: from the choice of a cluster to its dashboard, and back after a loss.

mod as_root {
    use anyhow::Result;
    use hpcclient_tests::{CLUSTER, Site, run_spec};

    const PASSWORD: &str = "korrekt Pferd/Batterie";

    #[test]
    fn the_login_page_asks_what_the_server_asks_and_goes_on_to_the_dashboard() -> Result<()> {
        let site = Site::for_account("bash", &["PasswordAuthentication yes"])?;
        let account = site.account()?;
        account.set_password(PASSWORD)?;
        let config = format!(
            "default = \"{CLUSTER}\"\n[clusters.{CLUSTER}]\nhost = \"127.0.0.1\"\nport = {}\n\
             user = \"{}\"\nknown_hosts = \"{}\"\n[clusters.other]\nhost = \"other.example\"\n",
            site.sshd().port(),
            account.name(),
            site.env().path("home/known_hosts").display(),
        );
        site.env()
            .write("home/.config/hpcclient/config.toml", &config)?;
        site.bridge()?;
        run_spec(
            site.env(),
            "login.spec.mjs",
            &[("ACCOUNT", account.name()), ("PASSWORD", PASSWORD)],
        )
    }
}
