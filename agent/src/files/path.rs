//! The path that a request asks for, as bytes.
//!
//! Called by `http/files` with the raw query string, because an extractor that makes text would
//! change names that are not UTF-8. Not here: whether the path exists.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use hpcclient_protocol::ByteString;
use percent_encoding::percent_decode;

use super::FileError;

/// A path as it was asked for: absolute, `~` or `~/…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryPath(Vec<u8>);

impl QueryPath {
    /// Finds `path` in a raw query string.
    ///
    /// # Errors
    /// There is none.
    pub fn from_query(query: &str) -> Result<Self, FileError> {
        query_values(query)
            .find(|(name, _)| name == b"path")
            .map(|(_, value)| Self(value))
            .ok_or(FileError::NoPath)
    }

    /// Takes the bytes of a path.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Returns the absolute path, without empty and `.` components. `..` stays, because what it
    /// means depends on links.
    ///
    /// # Errors
    /// The path is relative, starts with `~name` or holds a NUL byte.
    pub fn resolve(self, home: &Path) -> Result<PathBuf, FileError> {
        let bytes = self.0;
        let absolute = match bytes.strip_prefix(b"~") {
            Some(rest) if rest.is_empty() || rest.starts_with(b"/") => {
                let mut path = home.as_os_str().as_bytes().to_vec();
                path.extend_from_slice(rest);
                path
            }
            _ => bytes.clone(),
        };
        if !absolute.starts_with(b"/") || absolute.contains(&0) {
            let path = ByteString::from(bytes);
            return Err(FileError::BadPath { path });
        }
        let path = PathBuf::from(OsString::from_vec(absolute));
        let kept = path.components().filter(|part| *part != Component::CurDir);
        Ok(kept.collect())
    }
}

/// Returns the names and values of a query string, decoded to bytes; `+` is a space, as forms and
/// `URLSearchParams` write it.
pub fn query_values(query: &str) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decode = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect();
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(query: &str) -> Option<Vec<u8>> {
        let path = QueryPath::from_query(query).ok()?;
        let path = path.resolve(Path::new("/home/alice")).ok()?;
        Some(path.into_os_string().into_vec())
    }

    #[test]
    fn a_path_is_decoded_to_its_own_bytes() {
        assert_eq!(resolve("path=%2Ftmp%2Fn%E9").unwrap(), b"/tmp/n\xe9");
        assert_eq!(resolve("x=1&path=/a%2Bb+c&y").unwrap(), b"/a+b c");
        assert_eq!(resolve("path=//a/./b/../c/").unwrap(), b"/a/b/../c");
    }

    #[test]
    fn the_tilde_is_the_home_directory_and_nothing_else() {
        assert_eq!(resolve("path=~").unwrap(), b"/home/alice");
        assert_eq!(resolve("path=~%2Fx").unwrap(), b"/home/alice/x");
        assert_eq!(resolve("path=/~").unwrap(), b"/~");
        for bad in ["path=~bob", "path=x", "path=", "path=/a%00b", "paths=/"] {
            assert_eq!(resolve(bad), None, "{bad}");
        }
    }
}
