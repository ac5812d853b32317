//! `hpcclient share`: shows a run or a file to other users of the cluster.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hpcclient_protocol::{
    ApiError, ErrorCode, ShareId, StreamName,
    live::Access,
    share::{Share, ShareSpec, SharedObject},
};
use hpcclient_ssh::visible;

use super::{ClusterOption, login, which};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    cluster: ClusterOption,
    /// Let them type into it, interrupt it and set its size, as if they were you; at most 7 days.
    #[arg(long)]
    drive: bool,
    /// How long, such as 30m, 2h or 3d; without it until you take it back.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<Duration>,
    /// Share only this stream: stdout or stderr.
    #[arg(long, value_name = "STREAM", value_parser = ["stdout", "stderr"], conflicts_with = "drive")]
    stream: Option<String>,
    /// A run's id, its beginning or end; or the path of a file on the cluster, absolute or from ~/.
    #[arg(value_name = "RUN|PATH")]
    what: String,
    /// Login names on the cluster.
    #[arg(required = true, value_name = "USER")]
    users: Vec<String>,
}

pub(super) async fn run(args: Args) -> anyhow::Result<u8> {
    let cluster = args.cluster.cluster;
    let is_path = args.what.starts_with('~') || args.what.contains('/');
    let object = if is_path {
        SharedObject::File {
            path: args.what.as_str().into(),
        }
    } else {
        let streams = match args.stream.as_deref() {
            Some("stderr") => vec![StreamName::Stderr],
            Some(_) => vec![StreamName::Stdout],
            None => vec![],
        };
        SharedObject::Run {
            run: which::find(&cluster, &args.what).await?,
            streams,
        }
    };
    let users = args.users.join(", ");
    if args.drive && !confirmed(&users).await? {
        let error = ApiError::new(ErrorCode::BadRequest, "nothing was shared");
        return Err(error.into());
    }
    let spec = ShareSpec {
        object,
        guests: args.users,
        access: if args.drive {
            Access::Drive
        } else {
            Access::View
        },
        expires_ms: args.lasts.map(in_ms).transpose()?,
    };
    let (id, asked) = (ShareId::random(), &spec);
    let share = login::with_agent(
        &cluster,
        |agent| async move { agent.share(id, asked).await },
    );
    let share = share.await?;
    let how = way(&cluster, &share).await;
    tell(&share, &users, &how)?;
    Ok(0)
}

/// Returns how the guests come to what is shared.
async fn way(cluster: &str, share: &Share) -> String {
    let SharedObject::Run { run: id, .. } = share.spec.object else {
        return "hpcclient shares".to_owned();
    };
    let run = login::with_agent(cluster, |agent| async move { agent.run(id).await });
    let verb = if run.await.is_ok_and(|run| run.spec.pty.is_some()) {
        "console"
    } else {
        "attach"
    };
    format!("hpcclient {verb} {}:{id}", share.owner)
}

/// Prints the share's id, and on stderr how the guests come to it.
fn tell(share: &Share, users: &str, how: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", share.id)?;
    let text = visible(&format!(
        "{users} can now use `{how}` on the same login node"
    ));
    // A note is for people; with stderr closed there is nobody to read it.
    let _ = writeln!(io::stderr(), "hpcclient: {text}");
    Ok(())
}

/// Asks whether others may really act as this user, where there is somebody to ask.
async fn confirmed(users: &str) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(true);
    }
    let question = format!("Let {users} type into it, with all your rights on the cluster? [y/N] ");
    let asked = tokio::task::spawn_blocking(move || -> io::Result<String> {
        write!(io::stderr(), "{}", visible(&question))?;
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        Ok(line)
    });
    let answer = asked.await??.trim().to_lowercase();
    Ok(matches!(answer.as_str(), "y" | "yes"))
}

fn in_ms(lasts: Duration) -> anyhow::Result<u64> {
    let end = SystemTime::now()
        .duration_since(UNIX_EPOCH)?
        .saturating_add(lasts);
    Ok(u64::try_from(end.as_millis())?)
}

/// Reads a time such as `30m`.
fn time(text: &str) -> Result<Duration, String> {
    let bad = || "a number and s, m, h or d, such as 30m or 2h".to_owned();
    let number = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match text.strip_prefix(number).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = number.parse().map_err(|_| bad())?;
    let all = count
        .checked_mul(seconds)
        .filter(|all| (1..=MAX_SECONDS).contains(all));
    all.map(Duration::from_secs).ok_or_else(bad)
}

/// A hundred years.
const MAX_SECONDS: u64 = 100 * 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
        assert_eq!(time("7d"), Ok(Duration::from_secs(604_800)));
        for bad in [
            "",
            "2",
            "h",
            "0m",
            "-1h",
            "1.5h",
            "2 h",
            "2h3",
            "99999999999999999999d",
            "1é",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
