//! The media type of a file by its name, and whether a browser may show it by itself.
//!
//! Called by `http::files` and `http::ui`. The list holds what a browser can show and what people on
//! clusters keep; a type library knows a thousand more and weighs a twentieth of the agent.
//! Invariants: an unknown name is bytes; only what holds no scripts is harmless.

use std::path::Path;

/// What a browser is told about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Media {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// Whether it holds no scripts, or the viewer of it is the browser's own.
    pub is_harmless: bool,
}

impl Media {
    /// Returns the type of a file of this name.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let extension = extension.unwrap_or_default().to_ascii_lowercase();
        let (content_type, is_harmless) = match extension.as_str() {
            "avif" => ("image/avif", true),
            "bmp" => ("image/bmp", true),
            "gif" => ("image/gif", true),
            "ico" => ("image/x-icon", true),
            "jpeg" | "jpg" => ("image/jpeg", true),
            "png" => ("image/png", true),
            "tif" | "tiff" => ("image/tiff", true),
            "webp" => ("image/webp", true),
            "flac" => ("audio/flac", true),
            "mp3" => ("audio/mpeg", true),
            "ogg" => ("audio/ogg", true),
            "wav" => ("audio/wav", true),
            "mp4" => ("video/mp4", true),
            "webm" => ("video/webm", true),
            "pdf" => ("application/pdf", true),
            "log" | "txt" => ("text/plain; charset=utf-8", true),
            "css" => ("text/css; charset=utf-8", false),
            "csv" => ("text/csv; charset=utf-8", false),
            "htm" | "html" => ("text/html; charset=utf-8", false),
            "js" | "mjs" => ("text/javascript; charset=utf-8", false),
            "md" => ("text/markdown; charset=utf-8", false),
            "xml" => ("text/xml; charset=utf-8", false),
            "ipynb" | "json" => ("application/json", false),
            "svg" => ("image/svg+xml", false),
            "wasm" => ("application/wasm", false),
            "xhtml" => ("application/xhtml+xml", false),
            "gz" => ("application/gzip", false),
            "zip" => ("application/zip", false),
            _ => ("application/octet-stream", false),
        };
        Self {
            content_type,
            is_harmless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_hold_a_script_is_not_harmless() {
        for name in [
            "a.html", "a.HTM", "a.svg", "a.xml", "a.xhtml", "a.js", "a", ".png", "a.out",
        ] {
            assert!(!Media::of(Path::new(name)).is_harmless, "{name}");
        }
        assert_eq!(Media::of(Path::new("x/fig.PNG")).content_type, "image/png");
        assert_eq!(
            Media::of(Path::new("slurm-1.out")).content_type,
            "application/octet-stream"
        );
    }
}
