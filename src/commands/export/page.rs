//! The page, and the policy that a browser holds it to.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

pub(super) struct Page {
    pub(super) html: &'static str,
    /// It runs its one script, has its one style, and talks to this server alone.
    pub(super) policy: String,
}

pub(super) static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let html = include_str!("../../export/page.html");
    Page {
        html,
        policy: policy(html),
    }
});

fn policy(html: &str) -> String {
    let (script, style) = (hash_of(html, "script"), hash_of(html, "style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'"
    )
}

/// The hash of what stands in an element, by which a policy allows it.
fn hash_of(html: &str, element: &str) -> String {
    let inside = html.split_once(&format!("<{element}>"));
    let inside = inside.and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
    match inside {
        Some((text, _)) => format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text))),
        None => "'none'".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text of the kernel never becomes elements, and attributes hold neither style nor code:
    /// a browser would refuse both.
    #[test]
    fn the_page_has_what_its_policy_allows() {
        for refused in [
            "innerHTML",
            "insertAdjacentHTML",
            "eval(",
            " src=",
            " style=",
            " onclick=",
        ] {
            assert!(!PAGE.html.contains(refused), "{refused}");
        }
        for only in ["<script", "<style"] {
            assert_eq!(PAGE.html.matches(only).count(), 1, "{only}");
        }
        for hashed in ["script-src 'sha256-", "style-src 'sha256-"] {
            assert!(PAGE.policy.contains(hashed), "{}", PAGE.policy);
        }
    }

    /// As `openssl dgst -sha256 -binary | base64` has it.
    #[test]
    fn the_policy_allows_what_is_in_the_page_alone() {
        let policy = policy("<style>a{}</style><p><script>f()</script>");
        for part in [
            "script-src 'sha256-GcEEE0IkDzIP5EQ6DXZaDPORqT5RTBELX8Fyzyg9yvo='",
            "style-src 'sha256-",
            "connect-src 'self'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(super::policy("<p>").contains("script-src 'none'; style-src 'none'"));
    }
}
