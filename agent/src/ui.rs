//! The web UI's files inside the agent's binary, brotli-compressed by its build.
//!
//! Called by `http/ui`. Invariants: only `.br` files are kept, so the binary holds each byte once;
//! whoever does not take brotli gets the same bytes unpacked; a build without the web UI compiles
//! and says how to make one.
//! Not here: the headers around a file.

use std::{borrow::Cow, io};

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
/// Far above any file of the web UI; an unpacked file beyond it is broken.
const MAX_UNPACKED: usize = 32 << 20;

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

    /// Returns the bytes as they are.
    ///
    /// # Errors
    /// The build put something else than brotli there.
    pub fn unpack(&self) -> io::Result<Vec<u8>> {
        unpack(&self.packed)
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

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Limited(vec![]);
    brotli_decompressor::BrotliDecompress(&mut &*packed, &mut out)?;
    Ok(out.0)
}

/// A buffer that refuses to grow beyond [`MAX_UNPACKED`].
struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_UNPACKED {
            return Err(io::Error::other("the unpacked file is too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
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

    #[test]
    fn packed_bytes_are_unpacked() {
        // `brotli` of "hello hello hello\n".
        let packed = [
            0x8b, 0x08, 0x80, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x20, 0x68, 0x65, 0x6c, 0x6c, 0x6f,
            0x20, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x03,
        ];
        assert_eq!(unpack(&packed).unwrap(), b"hello hello hello\n");
        assert!(unpack(b"not brotli at all").is_err());
    }
}
