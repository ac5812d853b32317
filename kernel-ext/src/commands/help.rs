//! `hpcclient --help`: the verbs in groups, because a long flat list is not read.
//!
//! Called by `main`, which gets the parsed command line from here.

use std::fmt::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _};

use super::CommandLine;

/// The verbs by what they are about. Those of `share` are shown where they exist.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Commands and consoles",
        &["run", "console", "attach", "signal", "kill"],
    ),
    (
        "What they left",
        &["runs", "search", "export", "rename", "pin", "unpin", "rm"],
    ),
    ("Other users", &["share", "unshare", "shares"]),
    ("The page", &["open"]),
    (
        "The connection",
        &["connect", "disconnect", "renew", "status", "doctor", "stop"],
    ),
    ("To try it, and inside", &["demo", "bridge"]),
];

const TEMPLATE: &str = "{about}\n\n{usage-heading} {usage}\n\n{after-help}\nOptions:\n{options}\n\n`hpcclient VERB --help` tells more.\n";

/// Reads this process's command line; help, and what is wrong with it, end the process.
#[must_use]
pub fn parse() -> CommandLine {
    let matches = command().get_matches();
    CommandLine::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command() -> clap::Command {
    let command = CommandLine::command();
    let groups = groups(&command);
    command.help_template(TEMPLATE).after_help(groups)
}

fn groups(command: &clap::Command) -> String {
    let mut text = String::new();
    for (title, verbs) in GROUPS {
        let known: Vec<_> = verbs
            .iter()
            .filter_map(|verb| command.find_subcommand(verb))
            .collect();
        if known.is_empty() {
            continue;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{title}:");
        for verb in known {
            let about = verb.get_about().map(ToString::to_string);
            let about = about.unwrap_or_default();
            let _ = writeln!(text, "  {:<12}{about}", verb.get_name());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_is_in_one_group_and_in_the_help() {
        let mut command = command();
        let help = command.render_help().to_string();
        for verb in command.get_subcommands() {
            let name = verb.get_name();
            let groups = GROUPS.iter().filter(|(_, verbs)| verbs.contains(&name));
            assert_eq!(groups.count(), 1, "{name} is in one group");
            assert!(help.contains(&format!("\n  {name} ")), "{help}");
        }
        assert!(help.contains("Usage: hpcclient <COMMAND>") && help.contains("--version"));
    }

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }
}
