//! Private CA, enrolment, and mutually authenticated gRPC between agent and server.
