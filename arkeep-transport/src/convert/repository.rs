use std::mem::take;

use arkeep_core::repository::{
    Credentials, LocalLocation, Location, RcloneCredentials, RcloneLocation, Repository,
    RestCredentials, RestLocation, S3Credentials, S3Location, SftpCredentials, SftpLocation,
};
use arkeep_core::{ExposeSecret, SecretString};

use crate::proto;
use crate::proto::repository::{Credentials as ProtoCredentials, Location as ProtoLocation};

use super::{Invalid, present};

fn exposed(secret: &SecretString) -> String {
    secret.expose_secret().to_owned()
}

impl From<&Repository> for proto::Repository {
    fn from(repository: &Repository) -> Self {
        Self {
            location: Some((&repository.location).into()),
            path: repository.path.as_str().to_owned(),
            password: exposed(&repository.password),
            credentials: repository.credentials.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<proto::Repository> for Repository {
    type Error = Invalid;

    fn try_from(mut repository: proto::Repository) -> Result<Self, Invalid> {
        Ok(Self {
            location: present(repository.location.take(), "location")?.try_into()?,
            path: repository.path.parse().map_err(|_| Invalid("path"))?,
            credentials: repository
                .credentials
                .take()
                .map(TryInto::try_into)
                .transpose()?,
            password: take(&mut repository.password).into(),
        })
    }
}

impl From<&Location> for ProtoLocation {
    fn from(location: &Location) -> Self {
        match location {
            Location::Local(LocalLocation {
                path,
                must_be_mounted,
            }) => Self::Local(proto::LocalLocation {
                path: path.clone(),
                must_be_mounted: *must_be_mounted,
            }),
            Location::Rest(RestLocation { url }) => {
                Self::Rest(proto::RestLocation { url: url.clone() })
            }
            Location::S3(S3Location {
                endpoint,
                bucket,
                prefix,
                region,
                path_style,
            }) => Self::S3(proto::S3Location {
                endpoint: endpoint.clone(),
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                region: region.clone(),
                path_style: *path_style,
            }),
            Location::Sftp(SftpLocation {
                host,
                port,
                user,
                path,
                known_hosts,
            }) => Self::Sftp(proto::SftpLocation {
                host: host.clone(),
                port: port.map(u32::from),
                user: user.clone(),
                path: path.clone(),
                known_hosts: known_hosts.clone(),
            }),
            Location::Rclone(RcloneLocation { remote, path }) => {
                Self::Rclone(proto::RcloneLocation {
                    remote: remote.clone(),
                    path: path.clone(),
                })
            }
        }
    }
}

impl TryFrom<ProtoLocation> for Location {
    type Error = Invalid;

    fn try_from(location: ProtoLocation) -> Result<Self, Invalid> {
        Ok(match location {
            ProtoLocation::Local(proto::LocalLocation {
                path,
                must_be_mounted,
            }) => Self::Local(LocalLocation {
                path,
                must_be_mounted,
            }),
            ProtoLocation::Rest(proto::RestLocation { url }) => Self::Rest(RestLocation { url }),
            ProtoLocation::S3(proto::S3Location {
                endpoint,
                bucket,
                prefix,
                region,
                path_style,
            }) => Self::S3(S3Location {
                endpoint,
                bucket,
                prefix,
                region,
                path_style,
            }),
            ProtoLocation::Sftp(proto::SftpLocation {
                host,
                port,
                user,
                path,
                known_hosts,
            }) => Self::Sftp(SftpLocation {
                host,
                port: port
                    .map(|port| u16::try_from(port).map_err(|_| Invalid("port")))
                    .transpose()?,
                user,
                path,
                known_hosts,
            }),
            ProtoLocation::Rclone(proto::RcloneLocation { remote, path }) => {
                Self::Rclone(RcloneLocation { remote, path })
            }
        })
    }
}

impl From<&Credentials> for ProtoCredentials {
    fn from(credentials: &Credentials) -> Self {
        match credentials {
            Credentials::Rest(RestCredentials { username, password }) => {
                Self::RestCredentials(proto::RestCredentials {
                    username: username.clone(),
                    password: exposed(password),
                })
            }
            Credentials::S3(S3Credentials {
                access_key_id,
                secret_access_key,
                session_token,
            }) => Self::S3Credentials(proto::S3Credentials {
                access_key_id: access_key_id.clone(),
                secret_access_key: exposed(secret_access_key),
                session_token: session_token.as_ref().map(exposed),
            }),
            Credentials::Sftp(sftp) => {
                let secret = match sftp {
                    SftpCredentials::PrivateKey(key) => {
                        proto::sftp_credentials::Secret::PrivateKey(exposed(key))
                    }
                    SftpCredentials::Password(password) => {
                        proto::sftp_credentials::Secret::Password(exposed(password))
                    }
                };
                Self::SftpCredentials(proto::SftpCredentials {
                    secret: Some(secret),
                })
            }
            Credentials::Rclone(RcloneCredentials { config }) => {
                Self::RcloneCredentials(proto::RcloneCredentials {
                    config: exposed(config),
                })
            }
        }
    }
}

impl TryFrom<ProtoCredentials> for Credentials {
    type Error = Invalid;

    fn try_from(credentials: ProtoCredentials) -> Result<Self, Invalid> {
        Ok(match credentials {
            ProtoCredentials::RestCredentials(mut rest) => Self::Rest(RestCredentials {
                username: take(&mut rest.username),
                password: take(&mut rest.password).into(),
            }),
            ProtoCredentials::S3Credentials(mut s3) => Self::S3(S3Credentials {
                access_key_id: take(&mut s3.access_key_id),
                secret_access_key: take(&mut s3.secret_access_key).into(),
                session_token: s3.session_token.take().map(Into::into),
            }),
            ProtoCredentials::SftpCredentials(sftp) => {
                Self::Sftp(match &mut present(sftp.secret, "secret")? {
                    proto::sftp_credentials::Secret::PrivateKey(key) => {
                        SftpCredentials::PrivateKey(take(key).into())
                    }
                    proto::sftp_credentials::Secret::Password(password) => {
                        SftpCredentials::Password(take(password).into())
                    }
                })
            }
            ProtoCredentials::RcloneCredentials(mut rclone) => Self::Rclone(RcloneCredentials {
                config: take(&mut rclone.config).into(),
            }),
        })
    }
}
