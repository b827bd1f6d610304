"""The viewer's server: `metseg viewer`, or `streamlit run metseg/serving/viewer/app.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from metseg.errors import UsageError
from metseg.serving.viewer.access import Access
from metseg.serving.viewer.options import ViewerOptions

try:
    hosts = ViewerOptions.from_environment().hosts
except UsageError as error:
    sys.exit(str(error))
app = st.App(Path(__file__).with_name("page.py"), middleware=[Middleware(Access, hosts=hosts)])
