"""OpenCV's DNN module, its classic engine: the newer one of version 5 does not read quantised files."""
import cv2

import protocol

from . import Engine, only_input, session


class OpenCv(Engine):
    runtime, wheel, forms = "OpenCV DNN", "opencv-python-headless", ["onnx", "qoperator"]

    def load(self, request, batch):
        cv2.setNumThreads(request.get("threads", 1))
        name = only_input(request)
        classic = [cv2.dnn.ENGINE_CLASSIC] if hasattr(cv2.dnn, "ENGINE_CLASSIC") else []
        try:
            net = cv2.dnn.readNetFromONNX(request["model"], *classic)
        except cv2.error as problem:
            raise protocol.Refused("unsupported", f"OpenCV does not read the file: {protocol.one_line(problem)}") from None
        if net.empty():
            raise protocol.Refused("unsupported", "OpenCV read an empty network from the file")
        outputs = net.getUnconnectedOutLayersNames()
        wanted = request.get("output_name")
        notes = ["the classic DNN engine"] if classic else []
        if hasattr(net, "enableWinograd"):  # faster, and another sum
            net.enableWinograd(bool((request.get("options") or {}).get("winograd", False)))
            notes.append("Winograd off" if not (request.get("options") or {}).get("winograd") else "Winograd on")

        def run(feeds):
            net.setInput(feeds[name], name)
            try:
                return net.forward(wanted if wanted in outputs else outputs[0])
            except cv2.error as problem:
                if "CV_16F" in str(problem):
                    raise protocol.Refused("unsupported", f"OpenCV has no float16 arithmetic: {protocol.one_line(problem)}") from None
                raise

        return session(run, batch, [], notes)
