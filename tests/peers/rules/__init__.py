"""The arithmetic of each engine, one module a family of operators, stated in numpy and compared with the engine bit for bit."""
