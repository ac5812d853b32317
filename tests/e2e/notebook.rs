//! The quickstart in JupyterLab in real Chromium, as a user has it.

use std::fs;

use anyhow::Result;
use hpcclient_tests::{Jupyter, Site, repository, run_spec};

/// What a home directory may have in it, so that the pictures show one.
fn furnish(site: &Site) -> Result<()> {
    let home = site.env().path("node-home");
    for folder in ["models", "results", "scratch"] {
        fs::create_dir(home.join(folder))?;
    }
    for (name, text) in [
        ("README.md", "# Runs of the granule layer\n"),
        (
            "job.sbatch",
            "#!/bin/bash\n#SBATCH --nodes=4\nsrun nrniv -mpi init.hoc\n",
        ),
        ("spikes.csv", "cell,time_ms\n1,0.25\n2,0.40\n"),
    ] {
        fs::write(home.join(name), text)?;
    }
    Ok(())
}

#[test]
fn the_quickstart_runs_in_jupyterlab_and_the_gui_takes_typing() -> Result<()> {
    let site = Site::new()?;
    furnish(&site)?;
    let folder = site.env().path("home/notebooks");
    fs::create_dir(&folder)?;
    fs::copy(
        repository().join("examples/quickstart.ipynb"),
        folder.join("quickstart.ipynb"),
    )?;
    let jupyter = Jupyter::start(site.env(), &folder)?;
    let url = jupyter.notebook("quickstart.ipynb");
    run_spec(site.env(), "quickstart.spec.mjs", &[("NOTEBOOK", &url)])
}

#[test]
fn the_gui_opens_in_a_window_of_its_own_and_survives_a_reload() -> Result<()> {
    let site = Site::new()?;
    furnish(&site)?;
    site.bash("echo one line; echo another >&2")?.success()?;
    let output = site.hpcclient(&["open", "--print"])?.success()?;
    let text = output.text();
    let url = text
        .split_whitespace()
        .find(|word| word.starts_with("http://"));
    run_spec(
        site.env(),
        "gui.spec.mjs",
        &[("PAGE", url.unwrap_or_default())],
    )
}

mod as_root {
    use anyhow::Result;
    use hpcclient_tests::{CLUSTER, Jupyter, Site, run_spec};
    use serde_json::json;

    const PASSWORD: &str = "korrekt Pferd/Batterie";

    #[test]
    fn a_cell_shows_the_login_page_until_there_is_a_connection() -> Result<()> {
        let site = Site::for_account("bash", &["PasswordAuthentication yes"])?;
        let account = site.account()?;
        account.set_password(PASSWORD)?;
        let config = format!(
            "default = \"{CLUSTER}\"\n[clusters.{CLUSTER}]\nhost = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\n\
             known_hosts = \"{}\"\n",
            site.sshd().port(),
            account.name(),
            site.sshd().file("known_hosts").display(),
        );
        site.env()
            .write("home/.config/hpcclient/config.toml", &config)?;
        let cell = json!({
            "cell_type": "code", "id": "view", "metadata": {}, "outputs": [], "execution_count": null,
            "source": "from hpcclient import *\nmarconiview",
        });
        let notebook = json!({
            "cells": [cell], "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"}},
        });
        site.env()
            .write("home/notebooks/view.ipynb", &notebook.to_string())?;
        let folder = site.env().path("home/notebooks");
        let jupyter = Jupyter::start(site.env(), &folder)?;
        let url = jupyter.notebook("view.ipynb");
        run_spec(
            site.env(),
            "unconnected.spec.mjs",
            &[("NOTEBOOK", &url), ("PASSWORD", PASSWORD)],
        )
    }
}
