//! Queries and paths of requests.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;

use super::problem::{Code, Problem};
use crate::store::Page;

/// The query of a request. Take what is known, then [`finish`](Self::finish): a parameter that
/// nobody took is refused, since a filter that is misspelt must not match everything.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl Params {
    /// The parameter's value, if it was sent.
    pub(super) fn take<T>(&mut self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let Some(index) = self.0.iter().position(|(sent, _)| sent == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.swap_remove(index);
        match value.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(refused(name, &error.to_string())),
        }
    }

    /// `limit` and `cursor`.
    pub(super) fn page(&mut self) -> Result<Page, Problem> {
        let page = match self.take("limit")? {
            None => Page::default(),
            Some(limit) => {
                Page::first(limit).ok_or_else(|| refused("limit", "must be 1 to 200"))?
            }
        };
        match self.take("cursor")? {
            None => Ok(page),
            Some(cursor) => Ok(page.after(cursor)),
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(refused(name, "unknown parameter")),
        }
    }
}

fn refused(name: &str, detail: &str) -> Problem {
    Problem::new(Code::BadRequest, "the query cannot be read").at(name, detail)
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Problem::new(Code::BadRequest, "the query cannot be read"))?;
        for (index, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().skip(index + 1).any(|(other, _)| other == name) {
                return Err(refused(name, "comes twice"));
            }
        }
        Ok(Self(pairs))
    }
}

/// The id in a path. Text that is no id names nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    async fn params(uri: &str) -> Result<Params, Problem> {
        let request = Request::builder()
            .uri(uri)
            .body(())
            .map(Request::into_parts);
        let (mut parts, ()) = request.map_err(|_| Problem::not_found())?;
        Params::from_request_parts(&mut parts, &()).await
    }

    fn fields(problem: &Problem) -> Vec<&str> {
        problem
            .errors()
            .iter()
            .map(|error| error.field.as_str())
            .collect()
    }

    #[tokio::test]
    async fn what_nobody_took_is_refused() -> Result<(), Problem> {
        let mut params = params("/x?state=queued&stat=queued").await?;

        assert_eq!(params.take::<String>("state")?, Some("queued".to_owned()));
        let refused = params.finish();
        assert!(refused.is_err_and(|problem| fields(&problem) == ["stat"]));
        Ok(())
    }

    #[tokio::test]
    async fn a_parameter_comes_once() {
        let refused = params("/x?limit=1&limit=2").await;

        assert!(refused.is_err_and(|problem| fields(&problem) == ["limit"]));
    }

    #[tokio::test]
    async fn a_page_is_bounded() -> Result<(), Problem> {
        for uri in ["/x?limit=0", "/x?limit=201", "/x?limit=-1", "/x?limit=x"] {
            let refused = params(uri).await?.page();

            assert!(
                refused.is_err_and(|problem| fields(&problem) == ["limit"]),
                "{uri}"
            );
        }
        let refused = params("/x?cursor=x").await?.page();
        assert!(refused.is_err_and(|problem| fields(&problem) == ["cursor"]));
        assert_eq!(params("/x").await?.page()?.limit(), 50);
        Ok(())
    }
}
