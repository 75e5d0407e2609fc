"""The core that every plane shares: the contract, plans, ports, backends, runtime and stores."""
