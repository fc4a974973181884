//! Of which objects a source tells.

/// What a source is asked for, besides Services and slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// The node whose object and pods count; without one, all Nodes do, and no pod.
    pub node: Option<&'a str>,
    /// The node's pods whose sockets are left out count, too.
    pub pods: bool,
}

impl Scope<'_> {
    /// Whether pods of the node with this name count.
    pub(super) fn has_pods_of(&self, node: &str) -> bool {
        self.pods && self.node == Some(node)
    }
}

impl<'a> From<&'a str> for Scope<'a> {
    fn from(node: &'a str) -> Self {
        Some(node).into()
    }
}

impl<'a> From<Option<&'a str>> for Scope<'a> {
    fn from(node: Option<&'a str>) -> Self {
        Self { node, pods: false }
    }
}
