//! The files of an `Include`.

use std::path::{Path, PathBuf};

/// The files that a pattern stands for, in order: below `home` after a `~/`, else below `folder` if it is relative.
pub(super) fn files(pattern: &str, folder: &Path, home: &Path) -> Vec<PathBuf> {
    let (base, rest) = match pattern.strip_prefix("~/") {
        Some(rest) => (home, rest),
        None if pattern.starts_with('/') => (Path::new("/"), pattern.trim_start_matches('/')),
        None => (folder, pattern),
    };
    // Two stars would mean every folder below to this library; to ssh they are one.
    let mut rest = rest.to_owned();
    while rest.contains("**") {
        rest = rest.replace("**", "*");
    }
    let whole = format!("{}/{rest}", glob::Pattern::escape(&base.to_string_lossy()));
    let options = glob::MatchOptions {
        require_literal_leading_dot: true,
        require_literal_separator: true,
        ..glob::MatchOptions::new()
    };
    glob::glob_with(&whole, options).map_or_else(|_| vec![], |found| found.flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns_name_files_in_order() {
        let folder = tempfile::Builder::new().prefix("a[b").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["conf.d/20-b", "conf.d/10-a", "conf.d/.hidden", "sub/x/one"] {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        let nowhere = Path::new("/nowhere");
        let relative = |pattern: &str| files(pattern, folder.path(), nowhere);
        assert_eq!(relative("conf.d/*"), [at("conf.d/10-a"), at("conf.d/20-b")]);
        assert_eq!(relative("conf.d/[12]0-[b-z]"), [at("conf.d/20-b")]);
        assert_eq!(relative("*/x/o?e"), [at("sub/x/one")]);
        assert_eq!(relative("conf.d/**"), relative("conf.d/*"));
        assert!(relative("gone").is_empty());
        assert_eq!(
            files("~/sub/x/*", nowhere, folder.path()),
            [at("sub/x/one")]
        );
        let absolute = at("conf.d/10-a").display().to_string().replace("[b", "?b");
        assert_eq!(files(&absolute, nowhere, nowhere), [at("conf.d/10-a")]);
    }

    proptest! {
        #[test]
        fn no_pattern_makes_it_panic(pattern in "[-*?\\[\\]!a~.]{0,20}") {
            let folder = tempfile::tempdir().unwrap();
            let _ = files(&pattern, folder.path(), folder.path());
        }
    }
}
