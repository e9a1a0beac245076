"""The pages a customer sees: views, templates, QR codes, and one stylesheet and script."""
