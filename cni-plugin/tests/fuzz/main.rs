//! Whatever comes in by stdin and environment: the pure part of the plugin, and the program itself.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod mutate;
