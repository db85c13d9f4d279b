//! Basic authentication of frameworks, as `--http_framework_authenticators=basic` does it.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::text;
use crate::config::Credentials;

/// Who calls: nobody in particular where nobody is asked. The error is the answer.
pub(crate) fn principal<'a>(
    known: &'a [Credentials],
    headers: &HeaderMap,
) -> Result<Option<&'a str>, Box<Response>> {
    if known.is_empty() {
        return Ok(None);
    }
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(decode);
    let found = given
        .and_then(|(name, secret)| known.iter().find(|own| own.principal == name && own.secret == secret));
    found.map(|own| Some(own.principal.as_str())).ok_or_else(|| Box::new(unauthorized()))
}

fn decode(value: &str) -> Option<(String, String)> {
    let coded = value.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(coded.trim()).ok()?).ok()?;
    let (name, secret) = text.split_once(':')?;
    Some((name.to_owned(), secret.to_owned()))
}

fn unauthorized() -> Response {
    let mut response = text(StatusCode::UNAUTHORIZED, "401 Unauthorized.".to_owned());
    let realm = HeaderValue::from_static("Basic realm=\"mesos-master-scheduler\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    response
}
