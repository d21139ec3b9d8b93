"""A ROS 2 node: results as `vision_msgs/Classification`, health as `diagnostic_msgs/DiagnosticArray`.

python3 -m examples.ros2.node --ros-args -p source:=0 -p server:=ws://HOST:8765
"""

from __future__ import annotations

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import Header
from vision_msgs.msg import Classification, ObjectHypothesis

from spinn_client import Result, SyncStream
from spinn_client.sources.names import shown

from .messages import Types, classification, diagnostics
from .player import Player

TYPES = Types(Classification, ObjectHypothesis, DiagnosticArray, DiagnosticStatus, KeyValue, Header, Time)
DIAGNOSE_S = 1.0
RELIABILITY = {"reliable": ReliabilityPolicy.RELIABLE, "best_effort": ReliabilityPolicy.BEST_EFFORT}


class SpinnNode(Node):
    """Publishes ~/classification and /diagnostics. The timer of the diagnostics needs neither camera nor server."""

    def __init__(self) -> None:
        super().__init__("spinn")
        self._source = self.declare_parameter("source", "demo").value
        server = self.declare_parameter("server", "").value or None
        deadline_ms = self.declare_parameter("deadline_ms", 150.0).value
        self._frame_id = self.declare_parameter("frame_id", "camera").value
        reliability = self.declare_parameter("reliability", "best_effort").value
        depth = self.declare_parameter("depth", 10).value
        if reliability not in RELIABILITY:
            raise SystemExit(f"reliability is {reliability!r}, expected one of {', '.join(RELIABILITY)}")
        qos = QoSProfile(depth=depth, reliability=RELIABILITY[reliability])
        self._results = self.create_publisher(Classification, "~/classification", qos)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._player = Player(lambda: SyncStream(self._source, server=server, deadline_ms=deadline_ms), self._publish)
        self._player.start()
        self.create_timer(DIAGNOSE_S, self._diagnose)

    def destroy_node(self) -> None:
        self._player.close()
        super().destroy_node()

    def _publish(self, result: Result) -> None:
        now_ns = self.get_clock().now().nanoseconds
        self._results.publish(classification(TYPES, result, now_ns, self._frame_id))

    def _diagnose(self) -> None:
        now_ns = self.get_clock().now().nanoseconds
        name, source = self.get_fully_qualified_name(), shown(str(self._source))
        self._diagnostics.publish(diagnostics(TYPES, self._player.health(), now_ns, name, source))


def main() -> None:
    rclpy.init()
    node = SpinnNode()
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
