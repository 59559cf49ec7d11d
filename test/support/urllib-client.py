"""One HTTP exchange with Python's urllib, as another program would make it: request as JSON on stdin, answer as JSON on stdout."""

import base64
import json
import sys
import urllib.error
import urllib.request


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


asked = json.load(sys.stdin)
body = None if asked["body"] is None else base64.b64decode(asked["body"])
request = urllib.request.Request(asked["url"], data=body, headers=asked["headers"], method=asked["method"])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect)
try:
    response = opener.open(request, timeout=30)
except urllib.error.HTTPError as error:
    response = error
content = response.read()
json.dump({"status": response.status, "headers": response.getheaders() if hasattr(response, "getheaders") else list(response.headers.items()), "body": base64.b64encode(content).decode()}, sys.stdout)
