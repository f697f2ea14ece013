//! A client as a script would be one.

use std::net::IpAddr;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::Fallible;

/// Sends requests, with a bearer token once it has one.
#[derive(Clone)]
pub(super) struct Client {
    base: String,
    http: reqwest::Client,
    pub(super) bearer: Option<String>,
    pub(super) cookie: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    pub(super) json: Value,
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        Self::from_address(base, None)
    }

    pub(super) fn from_address(base: &str, address: Option<IpAddr>) -> Self {
        // The first call of a process installs it; what the others want is there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            base: base.to_owned(),
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .local_address(address)
                .build()
                .unwrap_or_default(),
            bearer: None,
            cookie: None,
        }
    }

    pub(super) async fn log_in(&mut self, email: &str, password: &str) -> Fallible {
        let body = json!({"email": email, "password": password});
        let answer = self.post("/api/v1/auth/login", &body).await?.expect(200)?;
        self.take(&answer);
        Ok(())
    }

    pub(super) fn take(&mut self, answer: &Answer) {
        self.bearer = Some(answer.string("/access_token"));
        let header = answer.header("set-cookie");
        self.cookie = header.split(';').next().map(str::to_owned);
    }

    pub(super) async fn get(&mut self, path: &str) -> Fallible<Answer> {
        self.send(Method::GET, path, None, &[]).await
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Fallible<Answer> {
        self.send(Method::POST, path, Some(body), &[]).await
    }

    pub(super) async fn patch(&mut self, path: &str, body: &Value) -> Fallible<Answer> {
        self.send(Method::PATCH, path, Some(body), &[]).await
    }

    pub(super) async fn delete(&mut self, path: &str) -> Fallible<Answer> {
        self.send(Method::DELETE, path, None, &[]).await
    }

    /// Makes something and returns it.
    pub(super) async fn create(&mut self, path: &str, body: &Value) -> Fallible<Value> {
        Ok(self.post(path, body).await?.expect(201)?.json)
    }

    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Fallible<Answer> {
        let raw = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_raw(method, path, raw, headers).await
    }

    pub(super) async fn send_raw(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
        headers: &[(&str, &str)],
    ) -> Fallible<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(bearer) = &self.bearer {
            request = request.bearer_auth(bearer);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some((kind, bytes)) = body {
            request = request.header("content-type", kind).body(bytes);
        }
        for (name, value) in headers {
            request = request.header(HeaderName::try_from(*name)?, HeaderValue::from_str(value)?);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer {
            status,
            headers,
            text,
            json,
        })
    }
}

impl Answer {
    /// The answer, if it has this status.
    pub(super) fn expect(self, status: u16) -> Fallible<Self> {
        match self.status == status {
            true => Ok(self),
            false => Err(format!("{} instead of {status}: {}", self.status, self.text).into()),
        }
    }

    pub(super) fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }

    pub(super) fn string(&self, pointer: &str) -> String {
        let value = self.json.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    }

    pub(super) fn code(&self) -> String {
        self.string("/code")
    }

    /// The cookies that were given, each as its name and value.
    pub(super) fn cookies(&self) -> Vec<String> {
        let all = self.headers.get_all("set-cookie").iter();
        let pair = |value: &HeaderValue| Some(value.to_str().ok()?.split(';').next()?.to_owned());
        all.filter_map(pair).collect()
    }

    /// The fields that were refused.
    pub(super) fn fields(&self) -> Vec<String> {
        let errors = self.json.get("errors").and_then(Value::as_array);
        let field = |error: &Value| Some(error.get("field")?.as_str()?.to_owned());
        errors.into_iter().flatten().filter_map(field).collect()
    }
}
