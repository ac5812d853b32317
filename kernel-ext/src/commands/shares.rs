//! `hpcclient shares`: what is shared by this user and with this user, or what guests did.

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use hpcclient_protocol::{
    live::Access,
    share::{AuditEntry, Share, ShareList, SharedObject},
};
use hpcclient_ssh::visible;

use super::{ClusterOption, login};

/// How many actions of guests are shown.
const AUDITED: usize = 1000;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Show what guests did instead, newest first.
    #[arg(long)]
    audit: bool,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    let mut out = Vec::new();
    if args.audit {
        let list =
            login::with_agent(&cluster, |agent| async move { agent.audit(AUDITED).await }).await?;
        if args.json {
            serde_json::to_writer(&mut out, &list)?;
            out.push(b'\n');
        } else {
            list.entries
                .iter()
                .try_for_each(|entry| writeln!(out, "{}", done(entry)))?;
        }
    } else {
        let list = login::with_agent(&cluster, |agent| async move { agent.shares().await }).await?;
        if args.json {
            serde_json::to_writer(&mut out, &list)?;
            out.push(b'\n');
        } else {
            print(&mut out, &list)?;
        }
    }
    io::stdout().write_all(&out)?;
    Ok(0)
}

fn print(out: &mut impl io::Write, list: &ShareList) -> io::Result<()> {
    if let Some(reason) = &list.off {
        writeln!(out, "sharing is off on this cluster: {}", visible(reason))?;
    }
    for (title, shares) in [
        ("shared by you", &list.by_me),
        ("shared with you", &list.with_me),
    ] {
        if !shares.is_empty() {
            writeln!(out, "{title}:")?;
        }
        for share in shares {
            let with = if title.ends_with("by you") {
                format!("with {}", share.spec.guests.join(", "))
            } else {
                format!("by {}", share.owner)
            };
            writeln!(out, "  {}", visible(&line(share, &with)))?;
        }
    }
    Ok(())
}

fn line(share: &Share, with: &str) -> String {
    let what = match &share.spec.object {
        SharedObject::Run { run, streams } if streams.is_empty() => format!("run {run}"),
        SharedObject::Run { run, streams } => {
            let names: Vec<_> = streams.iter().map(|stream| stream.as_str()).collect();
            format!("{} of run {run}", names.join(", "))
        }
        SharedObject::File { .. } => "file".to_owned(),
    };
    let may = if share.spec.access == Access::Drive {
        "drive"
    } else {
        "view"
    };
    let until = share
        .spec
        .expires_ms
        .map(|at| format!(", {}", left(at)))
        .unwrap_or_default();
    let title = share.title.replace('\n', "⏎");
    format!("{}  {may:<5}  {with}{until}  {what}  {title}", share.id)
}

/// Returns how long a share still lasts.
fn left(expires_ms: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let seconds = (expires_ms / 1000).saturating_sub(now);
    match seconds {
        0..120 => format!("{seconds} s left"),
        120..7200 => format!("{} min left", seconds / 60),
        7200..172_800 => format!("{} h left", seconds / 3600),
        _ => format!("{} days left", seconds / 86_400),
    }
}

fn done(entry: &AuditEntry) -> String {
    let at = jiff::Timestamp::from_millisecond(i64::try_from(entry.t_ms).unwrap_or(i64::MAX))
        .unwrap_or_default();
    let AuditEntry {
        guest,
        action,
        object,
        ..
    } = entry;
    visible(&format!("{at:.0}  {guest}  {action} {object}"))
}
