"""What every implementation of a port must do, as tests to run against your own: one module for each port.

The suites are classes of async methods named `test_...` that take the implementation as their argument; subclass one
in a test module, give a fixture of that name, and mark it for your runner. They assert, and need no test library.
"""
