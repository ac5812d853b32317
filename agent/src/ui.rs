//! The web UI's files inside the agent's binary, brotli-compressed by its build.
//!
//! Called by `http/ui`. Invariants: only `.br` files are kept, so the binary holds each byte once;
//! a build without the web UI compiles and says how to make one.
//! Not here: the headers around a file, and unpacking it, which the bridge does for a browser that needs it.

use std::borrow::Cow;

use rust_embed::RustEmbed;

/// The files of `webui/dist`. Debug builds read them from there whenever they are asked for.
#[derive(RustEmbed)]
#[folder = "../webui/dist"]
#[include = "*.br"]
#[include = "csp-hash.txt"]
#[allow_missing = true]
struct Dist;

/// Where the entry page lies.
const INDEX: &str = "index.html";
/// The hashes of the page's inline scripts, as its build wrote them.
const SCRIPT_HASHES: &str = "csp-hash.txt";

/// One file of the web UI.
#[derive(Clone, Debug)]
pub struct UiFile {
    packed: Cow<'static, [u8]>,
    hash: [u8; 32],
}

impl UiFile {
    /// Finds a file by its path below `/`; the empty path is the entry page.
    #[must_use]
    pub fn find(path: &str) -> Option<Self> {
        let path = if path.is_empty() { INDEX } else { path };
        // Only these two places hold files for viewers. Checked here, because a debug build looks
        // into the file system.
        let known = path == INDEX || path.starts_with("assets/");
        if !known || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return None;
        }
        let found = Dist::get(&format!("{path}.br"))?;
        Some(Self {
            hash: found.metadata.sha256_hash(),
            packed: found.data,
        })
    }

    /// Returns the bytes in brotli.
    #[must_use]
    pub fn packed(&self) -> Cow<'static, [u8]> {
        self.packed.clone()
    }

    /// Returns a name for this content.
    #[must_use]
    pub fn tag(&self) -> String {
        let short = self.hash.iter().take(16);
        short.fold(String::new(), |tag, byte| tag + &format!("{byte:02x}"))
    }
}

/// Returns the sources for `script-src` of the page's inline scripts, such as `'sha256-…'`.
#[must_use]
pub fn script_sources() -> String {
    let Some(file) = Dist::get(SCRIPT_HASHES) else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&file.data).into_owned();
    let hashes = text.split_whitespace().map(|word| word.trim_matches('\''));
    // Anything else than a hash would be a hole in the policy, or break the header.
    let plain = |hash: &&str| {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-');
        hash.starts_with("sha256-") && hash.chars().all(legal)
    };
    hashes
        .filter(plain)
        .map(|hash| format!(" '{hash}'"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_and_its_assets_can_be_asked_for() {
        for outside in [
            "csp-hash.txt",
            "../package.json",
            "assets/../index.html",
            "assets//x",
            "assets/./x",
            "assets/../../src/main.ts",
        ] {
            assert!(UiFile::find(outside).is_none(), "{outside}");
        }
    }
}
