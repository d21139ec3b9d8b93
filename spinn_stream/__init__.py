"""The core that device and server share: model, runtime, codec, wire, plan. No sockets, no camera, no asyncio."""
