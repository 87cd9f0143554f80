//! Whether the names of an ONNX model hold together: each defined once, and before it is read.
//!
//! Nodes stand in execution order, so that a name read before it is defined means nodes in a circle, out of order, or incomplete.
//! A nested graph sees the names of those around it, as they are where its node stands, and may reuse them for its own.

use std::collections::HashSet;

use super::read::ReadError;
use super::schema::{Attribute, Function, Graph, Model, Node, StringStringEntry, ValueInfo};

/// Names of values that a node may read.
struct Scope<'a> {
    defined: HashSet<&'a str>,
    around: Option<&'a Scope<'a>>,
}

impl<'a> Scope<'a> {
    fn within(around: Option<&'a Scope<'a>>) -> Self {
        Self { defined: HashSet::new(), around }
    }

    fn knows(&self, name: &str) -> bool {
        self.defined.contains(name) || self.around.is_some_and(|around| around.knows(name))
    }

    fn define(&mut self, name: &'a str, by: impl FnOnce() -> String) -> Result<(), ReadError> {
        match !name.is_empty() && self.defined.insert(name) {
            true => Ok(()),
            false => Err(ReadError::Redefined { name: name.to_owned(), by: by() }),
        }
    }

    fn read(&self, name: &str, by: impl FnOnce() -> String) -> Result<(), ReadError> {
        match self.knows(name) {
            true => Ok(()),
            false => Err(ReadError::Undefined { name: name.to_owned(), by: by() }),
        }
    }
}

/// Fails for the first name that is defined twice or read before it is defined, in all graphs and functions, and for keys that
/// occur twice.
pub(super) fn check_names(model: &Model) -> Result<(), ReadError> {
    if let Some(graph) = &model.graph {
        check_graph(graph, None)?;
    }
    unique(model.metadata_props.iter().map(StringStringEntry::key), "metadata key", || "the model".to_owned())?;
    let mut functions = HashSet::new();
    for function in &model.functions {
        if !functions.insert((function.domain(), function.name(), function.overload())) {
            let of = format!("domain {:?}", function.domain());
            return Err(ReadError::Duplicate { what: "function", name: function.name().to_owned(), of });
        }
        check_function(function)?;
    }
    Ok(())
}

fn unique<'a>(names: impl Iterator<Item = &'a str>, what: &'static str, of: impl Fn() -> String) -> Result<(), ReadError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ReadError::Duplicate { what, name: name.to_owned(), of: of() });
        }
    }
    Ok(())
}

fn check_graph(graph: &Graph, around: Option<&Scope>) -> Result<(), ReadError> {
    let mut scope = Scope::within(around);
    let in_graph = |what: &str| format!("{what} of graph {:?}", graph.name());
    for input in &graph.input {
        scope.define(input.name(), || in_graph("an input"))?;
    }
    // Up to IR version 3 every initializer is an input as well, and later one may be: its value is then the input's default.
    let inputs: HashSet<&str> = graph.input.iter().map(ValueInfo::name).collect();
    let mut initializers = Scope::within(None);
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    for tensor in graph.initializer.iter().chain(sparse) {
        initializers.define(tensor.name(), || in_graph("an initializer"))?;
        if !inputs.contains(tensor.name()) {
            scope.define(tensor.name(), || in_graph("an initializer"))?;
        }
    }
    check_nodes(&graph.node, &mut scope)?;
    graph.output.iter().try_for_each(|output| scope.read(output.name(), || in_graph("an output")))
}

fn check_function(function: &Function) -> Result<(), ReadError> {
    let mut scope = Scope::within(None);
    let in_function = |what: &str| format!("{what} of function {:?}", function.name());
    for input in &function.input {
        scope.define(input, || in_function("an input"))?;
    }
    let attributes = function.attribute.iter().map(String::as_str).chain(function.attribute_proto.iter().map(Attribute::name));
    unique(attributes, "attribute", || format!("function {:?}", function.name()))?;
    check_nodes(&function.node, &mut scope)?;
    function.output.iter().try_for_each(|output| scope.read(output, || in_function("an output")))
}

fn check_nodes<'a>(nodes: &'a [Node], scope: &mut Scope<'a>) -> Result<(), ReadError> {
    for (index, node) in nodes.iter().enumerate() {
        let of_node = || format!("node {index}, {} {:?}", node.op_type(), node.name());
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            scope.read(input, of_node)?;
        }
        unique(node.attribute.iter().map(Attribute::name), "attribute", of_node)?;
        for graph in node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs)) {
            check_graph(graph, Some(scope))?;
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            scope.define(output, of_node)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{DataType, SparseTensor, Tensor};
    use super::*;

    fn value(name: &str) -> ValueInfo {
        ValueInfo::tensor(name, DataType::Float, Vec::new())
    }

    fn constant(name: &str) -> Tensor {
        Tensor::new(name, DataType::Float, &[0], Vec::new())
    }

    fn node(input: &[&str], output: &[&str]) -> Node {
        Node::new("Op", "n", input, output)
    }

    /// `x` and `w` in, `y` out, through `nodes`.
    fn graph(nodes: Vec<Node>) -> Graph {
        let name = Some("main".to_owned());
        Graph {
            name,
            node: nodes,
            initializer: vec![constant("w")],
            input: vec![value("x")],
            output: vec![value("y")],
            ..Graph::default()
        }
    }

    fn nested(graph: Graph) -> Attribute {
        Attribute { name: Some("body".to_owned()), g: Some(Box::new(graph)), ..Attribute::default() }
    }

    fn check(graph: Graph) -> Result<(), ReadError> {
        check_names(&Model { graph: Some(graph), ..Model::default() })
    }

    fn undefined(name: &str, by: &str) -> Result<(), ReadError> {
        Err(ReadError::Undefined { name: name.to_owned(), by: by.to_owned() })
    }

    fn redefined(name: &str, by: &str) -> Result<(), ReadError> {
        Err(ReadError::Redefined { name: name.to_owned(), by: by.to_owned() })
    }

    #[test]
    fn names_in_order_are_let_through() {
        assert_eq!(check(graph(vec![node(&["x", "w", ""], &["a", ""]), node(&["a", "a"], &["", "y"])])), Ok(()));
    }

    #[test]
    fn circles_and_disorder_are_refused() {
        assert_eq!(check(graph(vec![node(&["x", "y"], &["y"])])), undefined("y", "node 0, Op \"n\""));
        assert_eq!(check(graph(vec![node(&["b"], &["y"]), node(&["y"], &["b"])])), undefined("b", "node 0, Op \"n\""));
        assert_eq!(check(graph(vec![node(&["a"], &["y"]), node(&["x"], &["a"])])), undefined("a", "node 0, Op \"n\""));
        assert_eq!(check(graph(vec![node(&["x"], &["a"])])), undefined("y", "an output of graph \"main\""));
    }

    #[test]
    fn names_with_two_origins_are_refused() {
        let twice = |change: &dyn Fn(&mut Graph)| {
            let mut graph = graph(vec![node(&["x"], &["y"])]);
            change(&mut graph);
            check(graph)
        };
        assert_eq!(twice(&|graph| graph.node.push(node(&["x"], &["y"]))), redefined("y", "node 1, Op \"n\""));
        assert_eq!(twice(&|graph| graph.node.push(node(&["x"], &["z", "z"]))), redefined("z", "node 1, Op \"n\""));
        assert_eq!(twice(&|graph| graph.node.push(node(&["x"], &["w"]))), redefined("w", "node 1, Op \"n\""));
        assert_eq!(twice(&|graph| graph.node.push(node(&["w"], &["x"]))), redefined("x", "node 1, Op \"n\""));
        assert_eq!(twice(&|graph| graph.input.push(value("x"))), redefined("x", "an input of graph \"main\""));
        assert_eq!(twice(&|graph| graph.input.push(value(""))), redefined("", "an input of graph \"main\""));
        let initializer = redefined("w", "an initializer of graph \"main\"");
        assert_eq!(twice(&|graph| graph.initializer.push(constant("w"))), initializer);
        let sparse = || SparseTensor { values: Some(constant("w")), ..SparseTensor::default() };
        assert_eq!(twice(&|graph| graph.sparse_initializer.push(sparse())), initializer);
        assert_eq!(twice(&|graph| graph.initializer.push(constant(""))), redefined("", "an initializer of graph \"main\""));
        // The default of an input, once.
        assert_eq!(twice(&|graph| graph.input.push(value("w"))), Ok(()));
        let default = |graph: &mut Graph| graph.initializer.extend([constant("x"), constant("x")]);
        assert_eq!(twice(&default), redefined("x", "an initializer of graph \"main\""));
    }

    #[test]
    fn nested_graphs_see_what_is_around_them_so_far() {
        let inner = |reads: &str| Graph { node: vec![node(&[reads], &["y"])], output: vec![value("y")], ..Graph::default() };
        let outer = |reads: &str| {
            let nodes = vec![node(&["x"], &["a"]), node(&[], &["y"]).with(nested(inner(reads))), node(&[], &["later"])];
            check(graph(nodes))
        };
        assert_eq!((outer("x"), outer("a"), outer("w")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(outer("later"), undefined("later", "node 0, Op \"n\""));
        assert_eq!(outer("y"), undefined("y", "node 0, Op \"n\""));
        // What is defined inside is not seen outside.
        let hidden = graph(vec![node(&[], &["z"]).with(nested(inner("x"))), node(&["z"], &["v"])]);
        assert_eq!(check(hidden), undefined("y", "an output of graph \"main\""));
    }

    #[test]
    fn functions_stand_alone() {
        let body = |reads: &str| Function {
            name: Some("f".to_owned()),
            input: vec!["p".to_owned()],
            output: vec!["q".to_owned()],
            node: vec![node(&[reads], &["q"])],
            ..Function::default()
        };
        let with = |functions: Vec<Function>| {
            check_names(&Model { graph: Some(graph(vec![node(&["x"], &["y"])])), functions, ..Model::default() })
        };
        assert_eq!(with(vec![body("p")]), Ok(()));
        assert_eq!(with(vec![body("x")]), undefined("x", "node 0, Op \"n\""));
        assert_eq!(with(vec![Function { node: Vec::new(), ..body("p") }]), undefined("q", "an output of function \"f\""));
        assert!(matches!(with(vec![body("p"), body("p")]), Err(ReadError::Duplicate { what: "function", .. })));
        let twice = vec!["a".to_owned(), "a".to_owned()];
        assert!(matches!(with(vec![Function { attribute: twice, ..body("p") }]), Err(ReadError::Duplicate { .. })));
    }

    #[test]
    fn attributes_and_metadata_have_names_of_their_own() {
        let attribute = || Attribute::int("axis", 1);
        let twice = check(graph(vec![node(&["x"], &["y"]).with(attribute()).with(attribute())]));
        assert!(matches!(twice, Err(ReadError::Duplicate { what: "attribute", .. })), "{twice:?}");
        let entry = || StringStringEntry { key: Some("k".to_owned()), value: None };
        let model = Model { metadata_props: vec![entry(), entry()], ..Model::default() };
        assert!(matches!(check_names(&model), Err(ReadError::Duplicate { what: "metadata key", .. })));
    }
}
