//! Debian's containerd with runc makes its pods' networks with the built plugin.

#[cfg(test)]
mod pods;
