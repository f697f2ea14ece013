use std::time::Duration;

use serde_json::Value;

use crate::until;

/// An answer of the server.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and their values.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; `null` when it is none.
    pub json: Value,
}

impl Answer {
    /// The answer itself, if it has this status.
    ///
    /// # Errors
    ///
    /// [`ApiError::Refused`] with the whole body otherwise.
    pub fn expect(self, status: u16) -> Result<Self, ApiError> {
        if self.status == status {
            Ok(self)
        } else {
            Err(ApiError::Refused {
                expected: status,
                status: self.status,
                body: self.text,
            })
        }
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A string of the JSON body, by JSON pointer; empty when it is not there.
    #[must_use]
    pub fn str(&self, pointer: &str) -> String {
        self.json
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

/// A request that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// The server could not be reached, or broke off.
    #[error("the server did not answer")]
    Transport(#[from] reqwest::Error),
    /// Another status than expected.
    #[error("answered {status} instead of {expected}: {body}")]
    Refused {
        /// What was expected.
        expected: u16,
        /// What came.
        status: u16,
        /// The body that came.
        body: String,
    },
    /// Something that was waited for did not come.
    #[error("{0}")]
    Patience(String),
}

/// A client of the HTTP API, as a script would be one.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: reqwest::Client,
    bearer: Option<String>,
    cookie: Option<String>,
}

impl Api {
    /// A client that has not logged in.
    #[must_use]
    pub fn new(base: String) -> Self {
        // Only the first call of a process installs it; what the others want is there.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            base,
            client: reqwest::Client::new(),
            bearer: None,
            cookie: None,
        }
    }

    /// Logs in, and uses the token from now on.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be reached.
    pub async fn log_in(&mut self, email: &str, password: &str) -> Result<(), ApiError> {
        let body = serde_json::json!({"email": email, "password": password});
        let answer = self.post("/api/v1/auth/login", &body).await?.expect(200)?;
        self.take_tokens(&answer);
        Ok(())
    }

    /// Exchanges the refresh cookie for a new pair.
    ///
    /// # Errors
    ///
    /// When the server refuses or cannot be reached.
    pub async fn refresh(&mut self) -> Result<(), ApiError> {
        let answer = self
            .post("/api/v1/auth/refresh", &serde_json::json!({}))
            .await?
            .expect(200)?;
        self.take_tokens(&answer);
        Ok(())
    }

    fn take_tokens(&mut self, answer: &Answer) {
        self.bearer = Some(answer.str("/access_token"));
        self.cookie = answer
            .header("set-cookie")
            .and_then(|cookie| cookie.split(';').next())
            .map(str::to_owned);
    }

    /// The bearer token in use.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.bearer.as_deref()
    }

    /// The refresh cookie in use, as `name=value`.
    #[must_use]
    pub fn cookie(&self) -> Option<&str> {
        self.cookie.as_deref()
    }

    /// Where requests go.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends one request.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached; any status is an answer.
    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ApiError> {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.base))
            .timeout(Duration::from_secs(30));
        if let Some(token) = &self.bearer {
            request = request.bearer_auth(token);
        }
        if let Some(cookie) = &self.cookie {
            request = request.header("cookie", cookie);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let text = response.text().await?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer {
            status,
            headers,
            text,
            json,
        })
    }

    /// `GET`.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn get(&self, path: &str) -> Result<Answer, ApiError> {
        self.send(reqwest::Method::GET, path, None).await
    }

    /// `POST`.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, ApiError> {
        self.send(reqwest::Method::POST, path, Some(body)).await
    }

    /// Creates an object and returns it.
    ///
    /// # Errors
    ///
    /// When the answer is not 201.
    pub async fn create(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        Ok(self.post(path, body).await?.expect(201)?.json)
    }

    /// Asks for work and returns the job's id.
    ///
    /// # Errors
    ///
    /// When the answer is not 202.
    pub async fn start_job(&self, path: &str, body: &Value) -> Result<String, ApiError> {
        Ok(self.post(path, body).await?.expect(202)?.str("/job_id"))
    }

    /// The job, once it is in one of these states.
    ///
    /// # Errors
    ///
    /// When it is not within `patience`; the text shows the job as it is then.
    pub async fn job_in(
        &self,
        job: &str,
        states: &[&str],
        patience: Duration,
    ) -> Result<Value, ApiError> {
        let path = format!("/api/v1/jobs/{job}");
        let found = until(patience, async || {
            let answer = self.get(&path).await.ok()?;
            states
                .contains(&answer.str("/state").as_str())
                .then_some(answer.json)
        });
        match found.await {
            Some(job) => Ok(job),
            None => Err(ApiError::Patience(format!(
                "the job is not in {states:?} after {} s: {}",
                patience.as_secs(),
                self.get(&path)
                    .await
                    .map_or_else(|error| error.to_string(), |got| got.text)
            ))),
        }
    }

    /// The job, once it has ended.
    ///
    /// # Errors
    ///
    /// As for [`Api::job_in`].
    pub async fn job_ended(&self, job: &str, patience: Duration) -> Result<Value, ApiError> {
        let ended = [
            "succeeded",
            "partial",
            "failed",
            "cancelled",
            "missed",
            "expired",
        ];
        self.job_in(job, &ended, patience).await
    }

    /// The agent, once it is in this state.
    ///
    /// # Errors
    ///
    /// When it is not within `patience`.
    pub async fn agent_in(
        &self,
        agent: &str,
        state: &str,
        patience: Duration,
    ) -> Result<Value, ApiError> {
        let path = format!("/api/v1/agents/{agent}");
        let found = until(patience, async || {
            let answer = self.get(&path).await.ok()?;
            (answer.str("/state") == state).then_some(answer.json)
        });
        match found.await {
            Some(agent) => Ok(agent),
            None => Err(ApiError::Patience(format!(
                "the agent is not {state}: {}",
                self.get(&path)
                    .await
                    .map_or_else(|error| error.to_string(), |got| got.text)
            ))),
        }
    }
}
