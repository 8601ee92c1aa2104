//! What a question over HTTP is narrowed to: its query, judged in words of our own.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;

use super::admin::problem;

/// What a question is narrowed to. Other keys are let be: whoever stands before us may add its own.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Which {
    pub app: Option<String>,
    pub since: i64,
    pub before: Option<i64>,
    pub limit: Option<usize>,
}

impl Which {
    /// Every problem at once.
    fn read(query: &str) -> Result<Which, Vec<String>> {
        fn number<T: FromStr>(key: &str, value: &str, form: &str, problems: &mut Vec<String>) -> Option<T> {
            let found = value.parse().ok();
            if found.is_none() {
                problems.push(format!("{key}: {value:?} is not {form}"));
            }
            found
        }
        let (mut which, mut problems) = (Which::default(), Vec::new());
        let row = "the number of a row";
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "app" => which.app = Some(value.into_owned()),
                "since" => which.since = number("since", &value, row, &mut problems).unwrap_or_default(),
                "before" => {
                    which.before = number("before", &value, "the number of a row; take the `next_before` of a page", &mut problems);
                }
                "limit" => which.limit = number("limit", &value, "a count", &mut problems),
                _ => {}
            }
        }
        if problems.is_empty() { Ok(which) } else { Err(problems) }
    }
}

impl<S: Sync> FromRequestParts<S> for Which {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Which, Response> {
        Which::read(parts.uri.query().unwrap_or_default()).map_err(|problems| problem(StatusCode::BAD_REQUEST, problems.join("; ")))
    }
}
