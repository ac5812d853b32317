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
